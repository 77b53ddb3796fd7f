from pathlib import Path

import pytest
import yaml

from baselines.mtt import MTT
from baselines.pdd import PDD
from ddoq.distillation.tables import at_budget
from ddoq.trajectories import ExpertTrajectories

PAPERS = Path(__file__).parents[3] / "configs" / "papers"


# N, M, T+, batch, pixels' rate, its own rate: the repository's settings.
@pytest.mark.parametrize(
    ("dataset", "classes", "ipc", "expected"),
    [
        ("cifar10", 10, 10, (50, 2, 5, None, 1000, 1e-7)),
        ("cifar10", 10, 50, (30, 2, 15, None, 1000, 1e-5)),
        ("cifar100", 100, 10, (20, 3, 20, None, 1000, 1e-5)),
        ("cifar100", 100, 50, (20, 2, 20, 512, 1000, 1e-5)),
        ("tiny_imagenet", 200, 10, (20, 3, 20, 64, 1e4, 1e-4)),
    ],
)
def test_the_papers_settings(dataset, classes, ipc, expected):
    given = yaml.safe_load((PAPERS / dataset / "pdd_mtt.yaml").read_text())["model"]["init_args"]
    inner = given.pop("base")["init_args"]
    experts = ExpertTrajectories(**inner.pop("experts", {"init_args": {}})["init_args"])
    method = at_budget(PDD(MTT(ipc, experts, **inner), **given), classes)
    base = method.base
    found = (
        *(base.steps, base.expert_epochs, base.max_start_epoch, base.batch_syn),
        *(base.lr, base.lr_step),
    )
    assert found == expected
    assert (method.stages, method.stage_epochs, method.ipc) == (5, 500, ipc)
    base._check_epochs()
