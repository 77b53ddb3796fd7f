import pytest

from ddoq.costs.workload import Sizes
from ddoq.priors import PriorSource
from ddoq.teachers import TeacherSource, TrainedTeacher

SIZES = Sizes(3, 110, 30, 16, 40)


@pytest.mark.parametrize("base", [TeacherSource, PriorSource])
def test_sources_that_do_not_say_are_unknown(base):
    class Bought(base):
        def obtain(self, data, cache, trainer):
            raise NotImplementedError

    network, (stage,) = Bought().workload(SIZES)
    assert network is None
    assert stage.flops is None
    assert "Bought does not say" in stage.note


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 1), ("adamw", 2)])
def test_a_teacher_sees_whole_batches_and_keeps_its_moments(optimizer, moments):
    source = TrainedTeacher("convnet2-w8", epochs=2, batch_size=50, optimizer=optimizer)
    network, (training, test) = source.workload(SIZES)
    assert training.passes == 2 * 100
    assert test.passes == 30 + 30  # for its accuracy, and for whether it has more than one answer
    weights = training.files["weights"]
    assert weights == sum(p.numel() * 4 for p in network.parameters())
    other = {"sgd": "adamw", "adamw": "sgd"}[optimizer]
    source = TrainedTeacher("convnet2-w8", epochs=2, batch_size=50, optimizer=other)
    difference = training.memory - source.workload(SIZES)[1][0].memory
    assert difference == (2 * moments - 3) * weights
