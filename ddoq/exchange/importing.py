"""From folders of images and parquet files, ours or others', to a distilled set."""

import os
from pathlib import Path
from typing import Any

import torch

from ddoq.data.decoding import LIMITS, ImageLimits, check_image_size
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList
from ddoq.exchange.imagefolder import list_exported, list_imagefolder
from ddoq.exchange.listing import Columns, Decoded, Listing, check_classes_present, decode_listing
from ddoq.exchange.parquet import list_parquet, parquet_files
from ddoq.exchange.record import read_record, restore


def import_set(
    source: Path,
    classes: ClassList | None = None,
    *,
    method: str | None = None,
    image_size: int | None = None,
    numeric: bool = False,
    collage: int | None = None,
    columns: Columns | None = None,
    limits: ImageLimits = LIMITS,
    follow_links: bool = False,
) -> DistilledSet:
    """Read a set that was exported by this package or made elsewhere.

    An export that nobody has touched gives the same images, labels, weights and record again. Of any other source only
    the pixels are known: the record then says which codec they went through and the hash of their files, and where
    the source has no weights every image weighs 1.

    Args:
        source: A folder per class, a parquet file, or a folder with parquet files.
        classes: The classes of the dataset, in label order; those of the source itself where omitted.
        method: What results call the set; needed unless the source is an export.
        image_size: Side in pixels to bring the images to; where omitted all must have one size.
        numeric: Whether class folders are labels, whatever their length.
        collage: Side of the grid of patches in every image, for recipes that shuffle them (RDED: 2).
        columns: Names of the columns of parquet files.
        limits: How large an encoded image may be.
        follow_links: Whether files may be read that lie outside the source and are reached from it by symbolic links.

    Returns:
        The set, sorted by label unless it is an export.

    Raises:
        UserError: If the source cannot be read or contradicts itself, the classes or the options.
    """
    if image_size is not None:
        check_image_size("--image-size", image_size)
    if collage is not None and collage < 1:
        raise UserError(f"--collage must be at least 1, not {collage}.")
    if not source.exists():
        raise UserError(f"{source} does not exist.")
    if source.is_dir() and not follow_links:
        refuse_links(source)
    record = read_record(source) if source.is_dir() else None
    if record is not None:
        return _restore(source, record, classes, method, image_size, collage, limits)
    if DistilledSet.exists(source):
        raise UserError(f"{source} is a distilled set already: evaluate it with --distilled.")
    if not method:
        raise UserError(
            "Say with --method what results shall call this set, for instance --method rded."
        )
    files = parquet_files(source)
    if files:
        listing = list_parquet(files, classes, numeric=numeric, columns=columns)
    elif source.is_dir():
        listing = list_imagefolder(source, classes, numeric=numeric)
    else:
        raise UserError(f"{source} is neither a folder nor a .parquet file.")
    check_classes_present(listing, str(source))
    decoded = decode_listing(listing, image_size, limits)
    return _foreign(
        source, listing, decoded, method, collage, "parquet" if files else "imagefolder"
    )


def refuse_links(source: Path) -> None:
    """Refuse a folder with symbolic links that lead out of it: what it holds would depend on what lies elsewhere.

    Args:
        source: The folder; it may be a link itself.

    Raises:
        UserError: If there are some; it lists them.
    """
    root = source.resolve()
    linked = [
        path
        for folder, folders, files in os.walk(source)
        for path in (Path(folder, name) for name in (*folders, *files))
        if path.is_symlink() and not path.resolve().is_relative_to(root)
    ]
    if linked:
        shown = ", ".join(f"{path} -> {path.resolve()}" for path in sorted(linked)[:5])
        raise UserError(
            f"{len(linked)} symbolic links lead out of {source}: {shown}{' ...' if len(linked) > 5 else ''}. Copy the "
            "files into it, or read them where they are with --follow-links."
        )


def _origin(listing: Listing, decoded: Decoded, layout: str) -> dict[str, Any]:
    """Say what is known of the files."""
    size = list(decoded.images.shape[-2:])
    stored = None if decoded.stored_size is None else list(decoded.stored_size)
    return {
        "format": layout,
        "codec": decoded.codec,
        "files_fingerprint": listing.fingerprint,
        "stored_size": stored,
        "resized": stored != size,
        "weights": "stored" if listing.weights is not None else "ones",
    }


def _foreign(
    source: Path,
    listing: Listing,
    decoded: Decoded,
    method: str,
    collage: int | None,
    layout: str,
) -> DistilledSet:
    order = torch.argsort(listing.labels, stable=True)
    weights = torch.ones(len(order)) if listing.weights is None else listing.weights
    metadata: dict[str, Any] = {
        "method": method,
        "ipc": int(torch.bincount(listing.labels).max()),
        "imported": _origin(listing, decoded, layout),
    }
    if listing.classes.keys is not None:
        metadata["class_keys"] = listing.classes.keys
    if collage is not None:
        metadata["collage"] = collage
    # Sorting a listing that is sorted already would copy all images for nothing.
    images = decoded.images if _sorted(listing) else decoded.images[order]
    try:
        return DistilledSet(
            images, listing.labels[order], weights[order], listing.classes.names, metadata
        )
    except UserError as error:
        hint = (
            " --weight-column none gives every image the weight 1."
            if listing.weights is not None
            else ""
        )
        raise UserError(f"{source}: {error}{hint}") from None


def _sorted(listing: Listing) -> bool:
    return bool((listing.labels.diff() >= 0).all())


def _restore(
    source: Path,
    record: dict[str, Any],
    classes: ClassList | None,
    method: str | None,
    image_size: int | None,
    collage: int | None,
    limits: ImageLimits,
) -> DistilledSet:
    metadata, names = record["record"], record["class_names"]
    _check_classes(source, names, metadata.get("class_keys"), classes)
    for option, given, key in (("--method", method, "method"), ("--collage", collage, "collage")):
        if given is not None and given != metadata.get(key):
            raise UserError(
                f"{source} is an export whose record has {key} {metadata.get(key)!r}, not {given!r}: omit {option}."
            )
    if record["layout"] == "parquet":
        listing = list_parquet(parquet_files(source) or _lacking(source))
    else:
        listing = list_exported(source, record)
    if listing.weights is None:
        raise UserError(f"{source} is an export without its column of weights. Export it again.")
    decoded = decode_listing(listing, limits=limits)
    original = restore(source, record, decoded.images, listing.labels, listing.weights)
    if image_size is None or decoded.images.shape[-2:] == (image_size, image_size):
        return original
    if record["format"] > 1:
        raise UserError(
            f"{source} has targets, a decoder or a transform, which belong to images of "
            f"{decoded.images.shape[-1]} pixels: omit --image-size."
        )
    # Other pixels are another set: what made the first one no longer tells it from others.
    resized = decode_listing(listing, image_size, limits)
    kept = {
        key: metadata[key] for key in ("method", "ipc", "class_keys", "collage") if key in metadata
    }
    imported = {**_origin(listing, resized, record["layout"]), "original": metadata}
    return DistilledSet(
        resized.images,
        listing.labels,
        listing.weights,
        names,
        {**kept, "imported": {**imported, "original_fingerprint": record["fingerprint"]}},
    )


def _lacking(source: Path) -> list[Path]:
    raise UserError(f"{source} is an export whose parquet file is gone. Export it again.")


def _check_classes(
    source: Path, names: list[str], keys: list[str] | None, classes: ClassList | None
) -> None:
    if classes is None:
        return
    known = keys if keys and classes.keys else names
    expected = classes.keys if keys and classes.keys else classes.names
    # A list of bare texts may hold keys as well as names.
    if known != expected and not (classes.keys is None and classes.names == keys):
        raise UserError(
            f"{source} was made for the classes {', '.join(names[:4])}, ..., {classes.origin} has "
            f"{', '.join(classes.names[:4])}, ...: others, or in another order."
        )
