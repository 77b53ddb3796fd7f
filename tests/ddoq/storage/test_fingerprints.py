import dataclasses
import enum
import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from ddoq.storage.fingerprints import (
    canonical_json,
    hash_config,
    hash_files,
    hash_module,
    hash_tensors,
    plain,
)


class Kind(enum.Enum):
    ONLINE = "online"


@dataclasses.dataclass
class Part:
    size: int
    kinds: tuple[Kind, ...] = (Kind.ONLINE,)


def test_plain_reaches_every_level():
    value = {"part": Part(3), "path": Path("a/b"), "dtype": torch.bfloat16, 7: {2, 1}}
    assert plain(value) == {
        "part": {"size": 3, "kinds": ["online"]},
        "path": "a/b",
        "dtype": "torch.bfloat16",
        "7": [1, 2],
    }


@pytest.mark.parametrize(
    "value", [torch.ones(1), object(), Part, lambda: 0, b"x", {"deep": [object()]}]
)
def test_plain_refuses_what_has_no_canonical_form(value):
    with pytest.raises(TypeError, match="cannot put"):
        plain(value)


def test_plain_refuses_keys_that_would_overwrite_one_another():
    with pytest.raises(TypeError, match="differ as text"):
        plain({1: "a", "1": "b"})


def test_mixed_sets_have_one_order():
    assert plain({1, "a", None, "1"}) == plain({"1", None, "a", 1})


def test_config_hash_ignores_order_and_container_and_nothing_else():
    base = {"ipc": 10, "lr": 0.1, "names": ["a", "b"], "part": Part(3)}
    same = {"part": {"kinds": ("online",), "size": 3}, "names": ("a", "b"), "lr": 0.1, "ipc": 10}
    assert canonical_json(base) == canonical_json(same)
    assert hash_config(base) == hash_config(same)
    others = [
        base | {"ipc": 11},
        base | {"ipc": "10"},
        base | {"names": ["b", "a"]},
        base | {"part": Part(4)},
        base | {"lr": None},
        {**base, "new": None},
    ]
    hashes = {hash_config(other) for other in [base, *others]}
    assert len(hashes) == len(others) + 1
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in hashes)


def test_tensor_hash_sees_names_types_shapes_and_bytes():
    base = {"a": torch.arange(6, dtype=torch.int32)}
    others = [
        {"b": torch.arange(6, dtype=torch.int32)},
        {"a": torch.arange(6, dtype=torch.int32).reshape(2, 3)},
        {"a": torch.arange(6, dtype=torch.int32).float()},
        {"a": torch.arange(6, dtype=torch.int32).view(torch.float32)},
        {"a": torch.tensor([0, 1, 2, 3, 4, 6], dtype=torch.int32)},
        {**base, "empty": torch.empty(0)},
        {**base, "empty": torch.empty(0, 2)},
        {},
    ]
    assert len({hash_tensors(tensors) for tensors in [base, *others]}) == len(others) + 1


def test_tensor_hash_ignores_order_and_memory_layout():
    a, b = torch.randn(3, 4), torch.randn(2).bfloat16()
    strided = torch.empty(4, 3).T.copy_(a)
    assert not strided.is_contiguous()
    assert hash_tensors({"a": a, "b": b}) == hash_tensors({"b": b.requires_grad_(), "a": strided})


def test_module_hash_sees_buffers_and_ignores_the_mode():
    network = nn.BatchNorm1d(3)
    before = hash_module(network)
    assert hash_module(network.eval()) == before
    network.running_mean[0] = 1.0
    assert hash_module(network) != before


def test_file_hash_sees_contents_in_order(tmp_path):
    for name, text in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "onetwo"), ("e", "")):
        (tmp_path / name).write_text(text)

    def hashed(*names):
        return hash_files(tmp_path / name for name in names)

    assert hashed("a", "b") == hashed("c", "b")
    assert len({hashed("a", "b"), hashed("b", "a"), hashed("d"), hashed("d", "e"), hashed()}) == 5
    inner = b"".join(hashlib.sha256(text).digest() for text in (b"one", b"two"))
    assert hashed("a", "b") == hashlib.sha256(inner).hexdigest()[:16]
