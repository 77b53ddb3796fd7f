"""Empty batches are refused by whatever takes a batch size, wherever the schema has one."""

import inspect

import pytest

import baselines  # noqa: F401 - registers the methods
import ddoq.ddoq  # noqa: F401
from benchmarks.configuration.mistakes import concrete_subclasses
from benchmarks.students.recipes import load_recipe
from ddoq.data import Digits, ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.errors import UserError
from ddoq.latents.quantization import Quantizer
from ddoq.priors import DiTConfig, PriorSource, VAEConfig
from ddoq.teachers import TeacherSource


def with_batches(base: type) -> list[type]:
    """List the suite's own classes of a kind that take a batch size."""
    return [
        kind
        for kind in concrete_subclasses(base)
        if kind.__module__.split(".")[0] in ("ddoq", "baselines")
        and "batch_size" in inspect.signature(kind).parameters
    ]


def build(kind: type, **arguments):
    """Build one; what it needs besides is a name."""
    needed = {
        name: 1 if parameter.annotation is int else "x"
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty
    }
    return kind(**needed, **arguments)


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits(limit_per_class=3, test_limit_per_class=2)
    data.setup()
    return data


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("kind", with_batches(Distiller))
def test_methods(digits, kind, size):
    with pytest.raises(
        UserError, match=rf"batch_size must be at least 1( and finite)?, not {size}"
    ):
        build(kind, batch_size=size).check(digits)


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize(
    "kind",
    [
        *with_batches(ImageDataModule),
        *with_batches(PriorSource),
        *with_batches(TeacherSource),
        *(VAEConfig, DiTConfig, Quantizer),
    ],
)
def test_parts(kind, size):
    with pytest.raises(
        UserError, match=rf"batch_size must be at least \d( and finite)?, not {size}"
    ):
        build(kind, batch_size=size)


@pytest.mark.parametrize("size", [0, -1])
def test_recipes(size):
    with pytest.raises(UserError, match=rf"batch_size must be .*at least 1.*{size}"):
        load_recipe("unified", {"batch_size": size})


def test_something_is_walked():
    assert len(with_batches(Distiller)) > 4
    assert len(with_batches(ImageDataModule)) > 3
    assert with_batches(TeacherSource)
