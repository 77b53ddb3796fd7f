"""A result as one flat line: the columns of the CSV and of a W&B summary."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from benchmarks.results.records import BYTES, FLOPS, FRACTIONS, Result
from benchmarks.results.sealed import SealedRecord
from ddoq.storage.provenance import largest_memory


def tells_top5(result: Result) -> bool:
    """Say whether top-5 accuracy tells anything: of five classes or fewer, it is 1 whatever a student has learnt."""
    classes = (result.config.get("data") or {}).get("num_classes")
    return not isinstance(classes, int) or classes > 5


def flat(result: Result) -> dict[str, Any]:
    """Spread a result over columns.

    Args:
        result: What to spread.

    Returns:
        Scalars by name, always in the same order; None where something is unknown.
    """
    config, cost, distilled = result.config, result.cost, result.distilled
    data, teacher = config.get("data") or {}, result.teacher or {}
    statistics = distilled.get("statistics") or {}
    settings = (config.get("distilled") or {}).get("settings")
    limits = ("source", "image_size", "limit_per_class", "test_limit_per_class", "test_images")
    costs = ("seconds", "params", "steps", "effective_batch", "global_batch", "world_size")
    distillation = distilled.get("cost") or {}
    return {
        **asdict(result.cell),
        "labels": (config.get("recipe") or {}).get("labels"),
        **{name: getattr(result.metrics, name) for name in (*FRACTIONS, "best_epoch")},
        **({} if tells_top5(result) else {"top5_last": None, "top5_best": None}),
        **{f"teacher_{key}": teacher.get(key) for key in ("arch", "accuracy_real")},
        **{f"teacher_{key}": teacher.get(key) for key in ("accuracy_distilled", "fingerprint")},
        **{name: statistics.get(name) for name in ("w2_masses", "w2_uniform", "distortion")},
        "distilled_images": distilled.get("images"),
        "distilled_decoded_images": distilled.get("decoded_images"),
        "distilled_bytes": distilled.get("bytes"),
        "distilled_stored_bytes": distilled.get("stored_bytes"),
        "distilled_uint8_bytes": distilled.get("uint8_bytes"),
        "distilled_float_bytes": distilled.get("float_bytes"),
        "distilled_effective_ipc": distilled.get("effective_ipc"),
        "distilled_seconds": distillation.get("seconds"),
        "distilled_flops": distillation.get("flops"),
        **_memory(distillation.get("peak_memory"), "distilled_peak"),
        **_of_ingredients(distilled.get("ingredients") or {}),
        "distilled_knowledge": distilled.get("knowledge"),
        "distilled_fingerprint": distilled.get("fingerprint"),
        **{name: cost.get(name) for name in (*costs, *FLOPS)},
        **{name: cost.get(name) for name in ("device_hours", "device", "precision")},
        **{name: cost.get(name) for name in BYTES},
        "sync_batchnorm": cost.get("sync_batchnorm"),
        **_memory(cost.get("peak_memory"), "peak"),
        **{f"data_{name}": data.get(name) for name in limits},
        "settings": _json(settings),
        **_versions(result.provenance),
        "warnings": "; ".join(result.warnings) or None,
        "created": result.created,
        "config_hash": result.config_hash,
    }


def flat_sealed(record: SealedRecord) -> dict[str, Any]:
    """Spread a result of a kind of its own over columns, as :func:`flat` does with others.

    Args:
        record: What to spread.

    Returns:
        Scalars by name; which there are depends on the kind, and on whether there is a set.
    """
    others = {*SealedRecord.__annotations__, "run"}
    scores = [item.name for item in fields(record) if item.name not in others]
    facts = {k: v for k, v in record.distilled.items() if not isinstance(v, Mapping)}
    of_set = record.config.get("set") or {}
    told = ("format", "set", "student", "seed")  # by other columns
    devices = record.provenance.get("gpus") or [record.provenance.get("cpu")]
    return {
        **asdict(record.cell),
        **{name: getattr(record, name) for name in scores},
        **{f"distilled_{name}": value for name, value in facts.items()},
        "distilled_seconds": (record.distilled.get("cost") or {}).get("seconds"),
        **record.cost,
        "device": devices[0],
        "settings": _json(of_set.get("settings")),
        **{f"config_{k}": _json(value) for k, value in record.config.items() if k not in told},
        **_versions(record.provenance),
        "created": record.created,
        "config_hash": record.config_hash,
    }


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _versions(provenance: Mapping[str, Any]) -> dict[str, Any]:
    git, versions = provenance.get("git") or {}, provenance.get("versions") or {}
    return {
        "commit": git.get("commit"),
        "modified": git.get("modified"),
        **{name: versions.get(name) for name in ("ddoq-bench", "python", "torch", "lightning")},
    }


def _memory(peak: Mapping[str, Any] | None, prefix: str) -> dict[str, Any]:
    """Spread what :func:`ddoq.storage.provenance.peak_memory` returned."""
    return {f"{prefix}_{name}": (peak or {}).get(name) for name in ("resident_bytes", "cuda_bytes")}


def _of_ingredients(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add up what ingredients took, such as experts; what they all share is counted in every row that needs them."""

    def known(name: str) -> list[Any]:
        values = [of_one.get(name) for of_one in facts.values() if isinstance(of_one, Mapping)]
        return [value for value in values if value is not None]

    return {
        **{f"ingredient_{name}": sum(known(name)) or None for name in ("seconds", "bytes")},
        **_memory(largest_memory(known("peak_memory")), "ingredient_peak"),
    }
