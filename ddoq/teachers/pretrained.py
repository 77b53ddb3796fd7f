"""Teachers whose weights were trained elsewhere: opened by name, cut to the dataset's classes, measured, kept."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ddoq.bounds import check_finite, check_normalisation
from ddoq.costs.flops import on_meta
from ddoq.costs.stages import forward_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.networks import build_network
from ddoq.optimisation.trainers import device_of
from ddoq.storage.fingerprints import hash_config, hash_files
from ddoq.storage.folders import obtain_folder
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers.accuracy import TESTED_ON, measure_again, split_accuracies
from ddoq.teachers.sources import TeacherSource, announce, notice_constant, passes_over_test
from ddoq.teachers.teacher import TEACHER_FORMAT, Teacher, build_from_record
from ddoq.teachers.weights import (
    Preset,
    count_outputs,
    find_preset,
    load_network,
    open_file,
    open_named,
    output_keys,
    select_outputs,
)

# Raised whenever a change of code changes what is kept of weights.
NAMED_FORMAT = 1

_IMAGENET_CLASSES = 1000


class PretrainedTeacher(TeacherSource):
    """A teacher that was trained elsewhere: by its name, from a state dict, or from a folder.

    - ``arch: torchvision/resnet18, weights: IMAGENET1K_V1``: weights of torchvision. ``DEFAULT`` is refused, since it
      changes between releases.
    - ``arch: timm/resnet18.a1_in1k``: weights of timm, the tag after the dot.
    - ``arch: torchvision/resnet18, path: mine.safetensors``: a state dict of one's own, for any network of torchvision,
      timm or this package. With ``weights`` as well, the file stands for them and takes over their normalisation.
    - ``path: folder``, alone: what :meth:`ddoq.teachers.Teacher.save` wrote, e.g. a folder below ``teachers/`` in an
      output folder.

    Weights that are named are measured on the real test set once, and kept with their accuracy in the cache.

    Args:
        path: A folder, or with ``arch`` a ``.safetensors`` file.
        arch: ``torchvision/<name>``, ``timm/<name>[.<tag>]``, or with ``path`` any name that
            :func:`ddoq.networks.build_network` knows.
        weights: The tag of the weights.
        classes: For each class of the dataset, its number among the outputs of the weights; ``imagenet`` finds the
            numbers in ImageNet-1K by WordNet id. Only these outputs are kept. None where classes are the same.
        mean: Channel means of the normalisation; None takes those of the weights, or of the dataset for a state
            dict that has no name.
        std: Channel standard deviations, likewise.
        kwargs: Further arguments of the network.
        stem: ``small`` at 64 pixels or less, with ``path``.

    Raises:
        UserError: If arguments do not go together.
    """

    stand_in = "ddoq.teachers.TrainedTeacher"

    def __init__(
        self,
        path: str | None = None,
        arch: str | None = None,
        weights: str | None = None,
        classes: list[int] | Literal["imagenet"] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        kwargs: dict[str, Any] | None = None,
        stem: str | None = None,
    ) -> None:
        named: dict[str, Any] = {"weights": weights, "classes": classes, "mean": mean, "std": std}
        named |= {"kwargs": kwargs, "stem": stem}
        if arch is None:
            if path is None:
                raise UserError(
                    "PretrainedTeacher needs a path, or an arch with weights, e.g. "
                    "{arch: torchvision/resnet18, weights: IMAGENET1K_V1}."
                )
            given = [name for name, value in named.items() if value is not None]
            if given:
                raise UserError(
                    f"teacher.{given[0]} needs teacher.arch: a teacher's folder, {path}, knows all about itself."
                )
        if (mean is None) != (std is None):
            raise UserError("teacher.mean and teacher.std belong together: give both or neither.")
        if mean is not None and std is not None:
            check_normalisation(mean, std, "teacher.")
        self.path = path
        self.arch = arch
        self.weights = weights
        self.classes = classes
        self.mean = mean
        self.std = std
        self.kwargs = dict(kwargs or {})
        check_finite("teacher.kwargs", self.kwargs)
        self.stem = stem

    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Teacher:
        """Load it; see :meth:`TeacherSource.obtain`."""
        if self.arch is not None:
            teacher, how = obtain_named(self, data, cache, trainer)
        else:
            assert self.path is not None
            teacher, how = Teacher.load(Path(self.path).expanduser()), f"loaded from {self.path}"
        teacher.check_matches(data)
        notice_constant(teacher, data, trainer)
        announce(teacher, how)
        return teacher

    def workload(self, sizes: Sizes) -> tuple[nn.Module | None, list[Stage]]:
        """Count the test of weights that are named; see :meth:`TeacherSource.workload`."""
        if self.arch is None:
            folder = Path(str(self.path)).expanduser()
            if not folder.is_dir():
                return None, [Stage.unknown("teacher: open", f"{folder} does not exist")]
            return on_meta(build_from_record(folder)[0]), []
        network = on_meta(
            build_network(
                self.arch, sizes.num_classes, sizes.image_size, stem=self.stem, **self.kwargs
            )
        )
        test = forward_stage("teacher: test", self.arch, network, sizes, passes_over_test(sizes))
        return network, [test]


def obtain_named(
    source: PretrainedTeacher, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]
) -> tuple[Teacher, str]:
    """Open named weights, or a state dict, as a teacher of a dataset.

    Args:
        source: What to open; its ``arch`` is given.
        data: The dataset, set up. Its test split measures the teacher, once.
        cache: Root of the cache.
        trainer: Arguments of ``lightning.Trainer`` that say where to run.

    Returns:
        The teacher, on the CPU, and how it was had, in words.

    Raises:
        UserError: If the weights are unknown or cannot be had, or if their classes are not the dataset's.
    """
    weights = _find_weights(source, data)
    settings = weights.settings(source, data)
    safe_name = re.sub(r"[^\w.-]", "_", weights.arch)
    folder = RunFolder(cache).teacher(f"{safe_name}-{hash_config(settings)}")

    def build(unfinished: Path) -> None:
        started = time.perf_counter()
        network, outputs = _open(source, data, weights)
        teacher = Teacher(
            network,
            arch=weights.arch,
            kwargs=source.kwargs,
            stem=source.stem,
            class_names=data.classes.names,
            class_keys=data.classes.keys,
            image_size=data.image_size,
            mean=weights.mean,
            std=weights.std,
            accuracy=0.0,
        )
        try:
            teacher.check_finite()
            _measure(teacher, data, trainer)
        except NotFiniteError as error:
            raise NotFiniteError(f"{weights.what}: {error}") from None
        teacher.training_record = {
            **settings,
            TESTED_ON: data.test_fingerprint,
            "outputs": outputs,
            "input_size": weights.preset.image_size if weights.preset else None,
            "seconds": time.perf_counter() - started,
        }
        teacher.save(unfinished)

    teacher, built = obtain_folder(folder, build, Teacher.load)
    how = f"weights {weights.what}, {'measured now and kept' if built else 'reused'} in {folder}"
    if weights.preset and weights.preset.image_size != data.image_size:
        how += f"; trained at {weights.preset.image_size} pixels, used at {data.image_size}"
    measure_again(teacher, data, folder, trainer)
    return teacher, how


@dataclass(frozen=True)
class _Weights:
    """Which weights a source names, and how a dataset uses them.

    Attributes:
        arch: The network.
        preset: What is known of weights with a name.
        file: The state dict, where one is given.
        classes: The output of each class; None where classes are the same.
        mean: Channel means of the normalisation.
        std: Its channel standard deviations.
    """

    arch: str
    preset: Preset | None
    file: Path | None
    classes: list[int] | None
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def what(self) -> str:
        """What to call them."""
        return self.preset.name if self.preset else str(self.file)

    def settings(self, source: PretrainedTeacher, data: ImageDataModule) -> dict[str, Any]:
        """Return all that decides the teacher, as JSON values."""
        return {
            "format": [TEACHER_FORMAT, NAMED_FORMAT],
            "arch": self.arch,
            "weights": self.preset.name if self.preset else None,
            "file": hash_files([self.file]) if self.file else None,
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "kwargs": source.kwargs,
            "stem": source.stem,
            "data": data.train_fingerprint,
        }


def _find_weights(source: PretrainedTeacher, data: ImageDataModule) -> _Weights:
    """Say which weights a source names, before anything is opened."""
    assert source.arch is not None
    by_name = source.path is None or source.weights is not None
    preset = find_preset(source.arch, source.weights) if by_name else None
    file = None if source.path is None else Path(source.path).expanduser()
    if file is not None:
        if file.is_dir():
            raise UserError(
                f"teacher.path {file} is a folder; with teacher.arch it names a .safetensors file. Leave teacher.arch "
                "out, or name the file."
            )
        if not file.is_file():
            raise UserError(f"teacher.path {file} does not exist: it names a .safetensors file.")
    elif source.stem is not None:
        raise UserError(
            "teacher.stem changes the network, and weights with a name were trained on their own stem: leave it out."
        )
    return _Weights(
        source.arch,
        preset,
        file,
        _numbers(source.classes, data),
        source.mean or (preset.mean if preset else data.mean),
        source.std or (preset.std if preset else data.std),
    )


def _numbers(classes: Sequence[int] | str | None, data: ImageDataModule) -> list[int] | None:
    """Return the output of every class, looked up by WordNet id where ``imagenet`` says so."""
    if classes is None:
        return None
    if isinstance(classes, str):
        from ddoq.data import imagenet_indices

        return imagenet_indices(data.classes)
    return list(classes)


def _open(
    source: PretrainedTeacher, data: ImageDataModule, weights: _Weights
) -> tuple[nn.Module, int]:
    """Return the network with the dataset's outputs only, and how many outputs the weights have."""
    arch, classes, size = weights.arch, weights.classes, data.image_size

    def build(outputs: int) -> nn.Module:
        return build_network(arch, outputs, size, stem=source.stem, **source.kwargs)

    whole: nn.Module | None = None
    if weights.file is not None:
        state, what = open_file(weights.file), str(weights.file)
    else:
        preset = weights.preset
        assert preset is not None
        check_classes(classes, preset.outputs, data, preset.name)  # before anything is downloaded
        if classes is None and preset.outputs == _IMAGENET_CLASSES:
            _check_imagenet_order(data, preset.name)
        whole = open_named(arch, source.weights, size, source.kwargs)
        state, what = whole.state_dict(), preset.name
    keys = output_keys(build, data.num_classes)
    outputs = count_outputs(state, keys, what)
    check_classes(classes, outputs, data, what)
    if classes is not None:
        state = select_outputs(state, keys, classes)
    network = load_network(build, data.num_classes, state, what).float()
    if whole is not None:
        _compare(network, whole.float(), classes, size, what)
    return network, outputs


def check_classes(
    classes: Sequence[int] | None, outputs: int, data: ImageDataModule, what: str
) -> None:
    """Refuse a choice of outputs that cannot be the dataset's classes.

    Args:
        classes: The output of each class; None where the classes are the same.
        outputs: Outputs of the weights.
        data: The dataset, set up.
        what: What to call the weights in errors.

    Raises:
        UserError: If numbers, or their order, do not fit.
    """
    count = data.num_classes
    if classes is None:
        if outputs != count:
            raise UserError(
                f"{what} knows {outputs} classes, but {data.name} has {count}. Set teacher.classes: `imagenet` finds "
                f"them in ImageNet-1K by WordNet id, a list of {count} numbers names the output of each."
            )
        return
    if len(classes) != count:
        raise UserError(
            f"teacher.classes lists {len(classes)} outputs, but {data.name} has {count} classes: list one for each, "
            "in the dataset's order."
        )
    wrong = [number for number in classes if not 0 <= number < outputs]
    if wrong:
        raise UserError(
            f"teacher.classes lists {wrong[0]}, but {what} has outputs 0 to {outputs - 1}."
        )
    twice = sorted({number for number in classes if list(classes).count(number) > 1})
    if twice:
        raise UserError(f"teacher.classes lists output {twice[0]} more than once.")


def _check_imagenet_order(data: ImageDataModule, what: str) -> None:
    """Where all keys are WordNet ids, make sure that they stand in ImageNet's order."""
    from ddoq.data import imagenet_indices

    try:
        numbers = imagenet_indices(data.classes)
    except UserError:
        return  # other classes, of which nothing is known here
    if numbers != list(range(_IMAGENET_CLASSES)):
        first = next(i for i, number in enumerate(numbers) if i != number)
        raise UserError(
            f"{data.name} has ImageNet's classes in another order than {what}: label {first} is number "
            f"{numbers[first]} there. Set teacher.classes: imagenet."
        )


@torch.no_grad()
def _compare(
    network: nn.Module, whole: nn.Module, classes: list[int] | None, size: int, what: str
) -> None:
    """Make sure that nothing was lost when the network was built anew, e.g. an option that comes with the weights."""
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = whole(images)
    if classes is not None:
        expected = expected[:, classes]
    if not torch.allclose(network(images), expected, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{what} cannot be built anew without its weights, since it comes with further options: give them in "
            "teacher.kwargs, or choose another network."
        )


def _measure(teacher: Teacher, data: ImageDataModule, trainer: Mapping[str, Any]) -> None:
    """Measure a teacher on the real test images where the trainer would run."""
    teacher.to(device_of(trainer))
    teacher.accuracy, teacher.accuracy_top5 = split_accuracies(teacher, data.test)
    teacher.cpu()
