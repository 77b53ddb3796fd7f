"""Weights by name: torchvision's, timm's and state dicts of one's own, each a network that knows its outputs."""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.errors import UserError, suggest
from ddoq.networks.torchvision_models import TIMM, TORCHVISION, check_torchvision, split_arch


@dataclass(frozen=True)
class Preset:
    """What weights say of the images that they were trained on.

    Attributes:
        name: The weights, to the tag, for messages and the record.
        outputs: Number of logits.
        mean: Channel means of the input normalisation.
        std: Channel standard deviations.
        image_size: Side in pixels.
    """

    name: str
    outputs: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int


def _torchvision_entry(name: str, tag: str | None) -> Any:
    from torchvision import models

    check_torchvision(name)
    members = models.get_model_weights(name).__members__
    tags = [key for key in members if key != "DEFAULT"]
    if tag is None or tag == "DEFAULT":
        why = "DEFAULT means other weights in other releases" if tag else "no weights are named"
        raise UserError(
            f"torchvision/{name}: {why}. Give teacher.weights one of {', '.join(tags)}."
        )
    if tag not in members:
        raise UserError(f"torchvision/{name} has no weights {tag!r}. {suggest(tag, tags)}")
    return members[tag]


def find_preset(arch: str, tag: str | None) -> Preset:
    """Say what is known of named weights, without opening them.

    Args:
        arch: ``torchvision/<name>`` or ``timm/<name>[.<tag>]``.
        tag: The weights, where the name does not hold them.

    Raises:
        UserError: If architecture or tag is unknown, or if no tag is given.

    Example:
        >>> find_preset("torchvision/resnet18", "IMAGENET1K_V1").outputs
        1000
    """
    library, name = split_arch(arch)
    if library == TORCHVISION:
        entry = _torchvision_entry(name, tag)
        crops = entry.transforms()
        return Preset(
            f"{arch}, {tag}",
            len(entry.meta["categories"]),
            tuple(crops.mean),
            tuple(crops.std),
            int(crops.crop_size[0]),
        )
    if library == TIMM:
        import timm

        full = _timm_name(name, tag)
        config = timm.get_pretrained_cfg(full)
        return Preset(
            f"timm/{full}",
            int(config.num_classes),
            tuple(config.mean),
            tuple(config.std),
            int(config.input_size[-1]),
        )
    raise UserError(
        f"teacher.arch: {arch} names no library, and only torchvision/{arch} or timm/{arch} could have weights. "
        "Give one of these, or teacher.path with a state dict."
    )


def open_named(arch: str, tag: str | None, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Open weights by their name, from the library's own cache or by a download.

    Args:
        arch: ``torchvision/<name>`` or ``timm/<name>[.<tag>]``.
        tag: The weights, where the name does not hold them.
        image_size: Vision transformers of timm are opened for this size.
        kwargs: Further arguments of the network.

    Returns:
        The whole network, all outputs, in evaluation mode.

    Raises:
        UserError: If architecture or tag is unknown, if no tag is given, or if the weights cannot be had.
    """
    library, name = split_arch(arch)
    with _quiet_rng():
        if library == TORCHVISION:
            return _open_torchvision(name, tag, kwargs)
        return _open_timm(_timm_name(name, tag), image_size, kwargs)


def _open_torchvision(name: str, tag: str | None, kwargs: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    entry = _torchvision_entry(name, tag)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / os.path.basename(entry.url)
    try:
        # Once with tensors only, so that nothing else is ever unpickled; get_model has no such option.
        entry.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        network: nn.Module = models.get_model(name, weights=entry, progress=False, **kwargs)
    except Exception as error:
        if file.is_file():
            raise UserError(
                f"{file} does not hold the weights {tag} of torchvision/{name} ({_first_line(error)}): delete it, so "
                "that it is downloaded again."
            ) from error
        raise UserError(
            f"The weights {tag} of torchvision/{name} are not in {folder} and cannot be downloaded "
            f"({_first_line(error)}). Download {entry.url} elsewhere and put it there as {file.name} (TORCH_HOME moves "
            "the folder)."
        ) from error
    return network.eval()


def _open_timm(full: str, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    import timm
    from huggingface_hub import constants

    hub_id = timm.get_pretrained_cfg(full).hf_hub_id or f"timm/{full}"
    try:
        return _create_timm(full, image_size, {"pretrained": True, **kwargs}).eval()
    except Exception as error:
        raise UserError(
            f"The weights timm/{full} cannot be opened ({_first_line(error)}). Without network, run `hf download "
            f"{hub_id}` on a machine that has one and copy models--{hub_id.replace('/', '--')} from its cache into "
            f"{constants.HF_HUB_CACHE} (HF_HOME moves the cache)."
        ) from error


def _timm_name(name: str, tag: str | None) -> str:
    """Check a name of timm and its tag; return the one with the other."""
    import timm

    plain, _, in_name = name.partition(".")
    if not timm.is_model(plain):
        raise UserError(f"timm has no network called {plain!r}. {_near(plain, timm.list_models())}")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{plain}.*", pretrained=True)]
    if in_name and tag and in_name != tag:
        raise UserError(
            f"arch: timm/{name} names the weights {in_name}, but teacher.weights is {tag}."
        )
    tag = in_name or tag
    if not tag:
        raise UserError(
            f"timm/{plain}: no weights are named, and timm's choice differs between releases. Give arch: timm/{plain}.TAG "
            f"with one of {', '.join(tags) or '(it has none)'}."
        )
    if tag not in tags:
        raise UserError(f"timm/{plain} has no weights {tag!r}. {suggest(tag, tags)}")
    return f"{plain}.{tag}"


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    return f"Near it: {', '.join(near)}." if near else "See timm.list_models()."


def _create_timm(full: str, image_size: int, arguments: dict[str, Any]) -> nn.Module:
    """Create a timm model, for the image size where it has such an argument."""
    import timm

    try:
        sized: nn.Module = timm.create_model(full, img_size=image_size, **arguments)
        return sized
    except TypeError as error:
        if "'img_size'" not in str(error):
            raise
    plain: nn.Module = timm.create_model(full, **arguments)
    return plain


def open_file(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict in safetensors format.

    Raises:
        UserError: If the file is missing, of another format or corrupt.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(
            f"{path} does not exist: teacher.path names a state dict in safetensors format."
        )
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path} is no .safetensors file, and nothing is unpickled here: convert it by "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), NEW)."
        )
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it.") from error
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


Builder = Callable[[int], nn.Module]


def output_keys(build: Builder, outputs: int) -> list[str]:
    """List the tensors of a classifier that have a row for each class.

    Args:
        build: Builds the network for a number of classes.
        outputs: Any such number.

    Returns:
        The names of the tensors whose first dimension follows the number of classes.

    Example:
        >>> output_keys(lambda n: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, n)), 4)
        ['1.weight', '1.bias']
    """
    with _quiet_rng():
        one, other = build(outputs).state_dict(), build(outputs + 1).state_dict()
    return [key for key in one if one[key].shape[:1] != other[key].shape[:1]]


def count_outputs(state: Mapping[str, Tensor], keys: Sequence[str], source: str) -> int:
    """Count the classes of a state dict by the tensors that have a row for each.

    Raises:
        UserError: If they are missing or disagree.
    """
    missing = [key for key in keys if key not in state]
    counts = {len(state[key]) for key in keys if key in state}
    if missing or len(counts) != 1:
        raise UserError(
            f"{source} does not hold the network of teacher.arch: "
            + (f"{missing[0]} is missing." if missing else f"its outputs number {sorted(counts)}.")
        )
    return counts.pop()


def select_outputs(
    state: Mapping[str, Tensor], keys: Sequence[str], classes: Sequence[int]
) -> dict[str, Tensor]:
    """Keep those rows of a classifier's last layer that belong to some classes, in their order.

    The logits of the classes that are kept do not change, to the bit or to a rounding.

    Args:
        state: A state dict.
        keys: Its tensors that have a row for each class.
        classes: The rows to keep.
    """
    index = torch.tensor(list(classes))
    return {key: tensor[index] if key in keys else tensor for key, tensor in state.items()}


@contextmanager
def _quiet_rng() -> Iterator[None]:
    """Leave the caller's random numbers alone: building draws weights that are replaced at once."""
    with torch.random.fork_rng(devices=[]):
        yield


def load_network(
    build: Builder, classes: int, state: Mapping[str, Tensor], source: str
) -> nn.Module:
    """Build a network and fill it, every tensor of it.

    Raises:
        UserError: If names or shapes differ.
    """
    with _quiet_rng():
        network = build(classes)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).replace("\n\t", " ")
        raise UserError(f"{source} does not hold the network of teacher.arch ({reason}).") from None
    return network.eval()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
