from pathlib import Path

import pytest
import yaml

from baselines.mtt import MTT
from ddoq.distillation.tables import at_budget
from ddoq.trajectories import ExpertTrajectories

PAPERS = Path(__file__).parents[3] / "configs" / "papers"


def published(dataset: str, classes: int, ipc: int) -> MTT:
    """Read the method as a configuration of its paper sets it."""
    given = yaml.safe_load((PAPERS / dataset / "mtt.yaml").read_text())["model"]["init_args"]
    experts = ExpertTrajectories(**given.pop("experts")["init_args"])
    return at_budget(MTT(ipc, experts, **given), classes)


# N, M, T+, batch, pixels' rate, its own rate, step size, ZCA: the paper's table.
@pytest.mark.parametrize(
    ("dataset", "classes", "ipc", "expected"),
    [
        ("cifar10", 10, 1, (50, 2, 2, None, 100, 1e-7, 0.01, True)),
        ("cifar10", 10, 10, (30, 2, 20, None, 100, 1e-5, 0.001, True)),
        ("cifar10", 10, 50, (30, 2, 40, None, 1000, 1e-5, 0.001, False)),
        ("cifar100", 100, 1, (20, 3, 20, None, 1000, 1e-5, 0.01, True)),
        ("cifar100", 100, 10, (20, 2, 20, None, 1000, 1e-5, 0.01, False)),
        ("cifar100", 100, 50, (80, 2, 40, 125, 1000, 1e-5, 0.01, True)),
        ("tiny_imagenet", 200, 1, (10, 2, 10, None, 1e4, 1e-4, 0.01, False)),
        ("tiny_imagenet", 200, 10, (20, 2, 40, 200, 1e4, 1e-4, 0.01, False)),
        ("tiny_imagenet", 200, 50, (20, 2, 40, 300, 1e4, 1e-4, 0.01, False)),
    ],
)
def test_the_papers_settings(dataset, classes, ipc, expected):
    method = published(dataset, classes, ipc)
    found = (
        *(method.steps, method.expert_epochs, method.max_start_epoch, method.batch_syn),
        *(method.lr, method.lr_step, method.step_size, method.experts.zca),
    )
    assert found == expected
    assert (method.iterations, method.experts.count, method.experts.epochs) == (5000, 100, 50)
    method._check_epochs()
