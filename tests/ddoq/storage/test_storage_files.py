import errno
import json
import os
import resource
import shutil

import pytest
import torch
from safetensors import safe_open

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.disk import WriteError
from ddoq.storage.files import (
    atomic_path,
    load_tensors,
    read_json,
    read_sealed,
    save_tensors,
    write_json,
    write_sealed,
)

TENSORS = {
    "images": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2),
    "scalar": torch.tensor(1.5),
    "flags": torch.tensor([True, False]),
    "none": torch.empty(0, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
}


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("old")
        assert not target.exists()

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["file.txt"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"x": (1, 2.5, None), "name": "Löwe", "path": tmp_path})
    assert read_json(tmp_path / "a.json") == {
        "x": [1, 2.5, None],
        "name": "Löwe",
        "path": str(tmp_path),
    }
    assert "Löwe" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"{", "not valid JSON"), (b"\xff\xfe", "not valid JSON")],
)
def test_read_json_names_the_file(tmp_path, content, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.json.*{message}"):
        read_json(path)


def test_read_json_of_a_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def test_tensors_round_trip(tmp_path):
    save_tensors(tmp_path / "a.safetensors", TENSORS, {"seed": 3})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"seed": 3}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_tensors_that_share_memory_are_stored(tmp_path):
    base = torch.arange(6.0)
    shared = {"a": base, "again": base, "part": base[2:], "transposed": base.reshape(2, 3).T}
    save_tensors(tmp_path / "a.safetensors", shared, {})
    tensors, _ = load_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in shared.items())


def test_every_damage_to_a_tensor_file_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"ipc": 10})
    whole = path.read_bytes()
    damages = {
        "cut short": whole[:-3],
        "empty": b"",
        "a pixel": whole[:-1] + bytes([whole[-1] ^ 1]),
        "metadata": whole.replace(b": 10", b": 99"),
        "broken metadata": whole.replace(b": 10}", b": ,,}"),
    }
    for damage, content in damages.items():
        assert content != whole, damage
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.safetensors is corrupt"):
            load_tensors(path)


def test_load_tensors_names_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors does not exist"):
        load_tensors(tmp_path / "none.safetensors")


def test_equal_contents_give_equal_bytes_that_the_library_reads(tmp_path):
    for number in range(8):  # the library alone orders the keys of metadata at random
        save_tensors(tmp_path / f"{number}", TENSORS, {"name": "Löwe", "seed": 3})
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    assert contents.pop()[8:].startswith(b'{"__metadata__":{"checksum":')
    with safe_open(tmp_path / "0", framework="pt") as file:
        assert file.metadata().keys() == {"checksum", "metadata"}
        assert torch.equal(file.get_tensor("images"), TENSORS["images"])


def test_files_with_another_order_of_metadata_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"ipc": 1})
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    assert content[8 : 8 + size] != text
    path.write_bytes(content[:8] + text + content[8 + size :])
    assert load_tensors(path)[1] == {"ipc": 1}


def test_a_sealed_record_notices_a_change_of_any_byte(tmp_path):
    path = tmp_path / "record.json"
    record = {"accuracy": 0.5125, "names": ["a", "Löwe"], "none": None}
    write_sealed(path, record)
    assert read_sealed(path) == record
    whole = path.read_bytes()
    harmless = []
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            values = read_sealed(path)
        except DamagedError:
            continue
        harmless.append({k: v for k, v in values.items() if k in record} == record)
    assert all(harmless)
    # The name of the seal itself and white space: nothing that was written is lost.
    assert len(harmless) < 20


def test_records_without_a_seal_are_read_as_they_are(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"accuracy": 0.5})
    assert read_sealed(path) == {"accuracy": 0.5}
    write_json(path, [1])
    assert read_sealed(path) == [1]
    write_json(path, {"accuracy": 0.6, "checksum": "0"})
    with pytest.raises(DamagedError, match=r"record\.json was changed.*remove 'checksum'"):
        read_sealed(path)


def test_a_full_disk_is_named_with_what_is_free(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2_500_000)
    monkeypatch.setattr("ddoq.storage.disk.shutil.disk_usage", lambda path: usage)
    target = tmp_path / "a.json"

    def write():
        with atomic_path(target) as temporary:
            temporary.write_text("half of")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        WriteError, match=r"a\.json cannot be written \(No space left on device; .* 2\.5 MB free"
    ):
        write()
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_under_tensors_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, hard))
    try:
        with pytest.raises(WriteError, match=r"a\.safetensors cannot be written \(File too large"):
            save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(10**5)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []
