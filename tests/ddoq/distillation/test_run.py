import pytest

from ddoq.distillation.ranks import RankGroup
from ddoq.distillation.run import Run
from ddoq.distillation.shard import class_items
from ddoq.storage.run_folder import RunFolder

ONE, OTHER = class_items(2)


@pytest.fixture
def run(tmp_path):
    return Run(RunFolder(tmp_path), "key", seconds=0)


def names(run):
    return sorted(path.name for path in run.folder.shards("key").iterdir())


def test_an_item_has_one_checkpoint_while_it_is_worked_on(run):
    first = run.checkpoint(ONE)
    assert run.checkpoint(ONE) is first
    assert run.checkpoint(OTHER) is not first
    run.begin(RankGroup())
    assert run.checkpoint(ONE) is not first


def test_scopes_have_names_and_keys_of_their_own(run):
    inner = run.scoped("stage-1")
    run.checkpoint(ONE).save_step(1, "outer")
    inner.checkpoint(ONE).save_step(2, "inner")
    inner.scoped("a").checkpoint(ONE).save_step(3, "innermost")
    assert names(run) == [
        "class-0000.checkpoint",
        "class-0000.stage-1.a.checkpoint",
        "class-0000.stage-1.checkpoint",
    ]
    run.begin(RankGroup())
    assert run.checkpoint(ONE).load_step() == (1, "outer")
    assert inner.checkpoint(ONE).load_step() == (2, "inner")


def test_seconds_of_all_scopes_add_up(run):
    inner = run.scoped("stage-1")
    run.checkpoint(ONE).earlier = 3.0
    inner.checkpoint(ONE).earlier = 4.0
    run.joint_checkpoint([ONE, OTHER]).earlier = [1.0, 2.0]
    inner.joint_checkpoint([ONE, OTHER]).earlier = [10.0, 20.0]
    assert run.earlier_seconds() == 3 + 4 + 1 + 10
    assert run.earlier_seconds(1) == 3 + 4 + 2 + 20
    run.begin(RankGroup())
    assert run.earlier_seconds() == 0


def test_what_was_kept_of_an_item_goes_and_that_of_others_stays(run):
    for part in (run, run.scoped("stage-1")):
        for item in (ONE, OTHER):
            part.checkpoint(item).save_step(1, None)
        part.joint_checkpoint([ONE, OTHER]).save_step(5, [None, None])
    assert len(names(run)) == 8
    run.begin(RankGroup())  # as in another process, which has asked for none of them
    run.clear(ONE)
    assert names(run) == [
        "class-0001.000000005.checkpoint",
        "class-0001.checkpoint",
        "class-0001.stage-1.000000005.checkpoint",
        "class-0001.stage-1.checkpoint",
    ]
