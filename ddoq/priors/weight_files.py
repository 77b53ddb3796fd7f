"""Which weights a diffusers folder holds: whole files or shards, safetensors or pickles, plain or of a variant."""

import re
from collections.abc import Sequence
from pathlib import Path

from ddoq.errors import UserError

# `diffusion_pytorch_model` of diffusers, `model` and `pytorch_model` of transformers; the variant stands before or, in older
# folders, behind the number of a shard.
_SHARD = r"(?:-\d+-of-\d+)?"
_FILE = re.compile(
    rf"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.([\w-]+?))?{_SHARD}(?:\.([\w-]+?))?\.(safetensors|bin)"
)


def list_variants(folder: Path) -> dict[str, set[str]]:
    """List the variants of a model's weights by the kind of file.

    Args:
        folder: The model, e.g. ``unet`` of a pipeline.

    Returns:
        For ``safetensors`` and ``bin`` the variants that are there; a plain file is the variant ``""``.
    """
    kinds: dict[str, set[str]] = {"safetensors": set(), "bin": set()}
    for path in folder.iterdir():
        if match := _FILE.fullmatch(path.name):
            kinds[match[3]].add(match[1] or match[2] or "")
    return kinds


def check_weights(
    folder: Path, parts: Sequence[str], variant: str | None, allow_pickle: bool
) -> None:
    """Refuse a pipeline whose weights are there, but not as they may be read.

    Weights that are not there at all are left to diffusers, which names them.

    Args:
        folder: The pipeline's.
        parts: Its folders with weights.
        variant: Which weights are asked for.
        allow_pickle: Whether ``.bin`` files may be read.

    Raises:
        UserError: If a part has pickles alone, or other variants alone, or if no part has the variant.
    """
    everything: set[str] = set()
    for part in parts:
        kinds = list_variants(folder / part)
        safe, pickled = kinds["safetensors"], kinds["bin"]
        readable = safe | pickled if allow_pickle else safe
        everything |= readable
        if readable & {variant or "", ""}:
            continue
        if readable:
            raise UserError(
                f"{folder / part} holds weights of the variant {_listed(readable)} alone: set prior.init_args.variant: "
                f"{min(readable)}."
            )
        if pickled:
            raise UserError(_pickle_error(folder / part))
    if variant is not None and everything and variant not in everything:
        others = everything - {""}
        mend = f"it has {_listed(others)}" if others else "leave prior.init_args.variant out"
        raise UserError(f"{folder} has no weights of the variant {variant!r}: {mend}.")


def _pickle_error(folder: Path) -> str:
    """Say which file of a model is a pickle, and how it becomes none."""
    path = min(path for path in folder.glob("*.bin") if _FILE.fullmatch(path.name))
    new = path.with_suffix(".safetensors").name
    if new.startswith("pytorch_model"):  # transformers calls the other kind by another name
        new = new.removeprefix("pytorch_")
    return (
        f"{folder} holds its weights as a pickle alone ({path.name}), which may run code when it is opened. Fetch the "
        "model's .safetensors, or convert it without running anything: python -c \"import torch; from safetensors.torch "
        f"import save_file; save_file(torch.load('{path}', weights_only=True), '{folder / new}', "
        "{'format': 'pt'})\". Where its origin is trusted, prior.init_args.allow_pickle: true opens it."
    )


def _listed(variants: set[str]) -> str:
    return ", ".join(sorted(variants))
