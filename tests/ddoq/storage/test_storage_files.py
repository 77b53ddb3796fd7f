import multiprocessing
import os
import threading
import time

import pytest
import torch

from ddoq.errors import UserError
from ddoq.storage.files import (
    atomic_path,
    build_once,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
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


def test_build_once_builds_once_and_hides_the_unfinished(tmp_path):
    folder = tmp_path / "priors" / "vae"
    seen = []

    def build(place):
        seen.append((folder.exists(), place == folder))
        (place / "weights").write_text("w")

    assert build_once(folder, build)
    assert not build_once(folder, build)
    assert seen == [(False, False)]
    assert (folder / "weights").read_text() == "w"


def test_build_once_starts_afresh_after_a_failure(tmp_path):
    def fail(place):
        (place / "rubbish").write_text("x")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        build_once(tmp_path / "a", fail)
    assert not (tmp_path / "a").exists()
    assert build_once(tmp_path / "a", lambda place: (place / "good").write_text("x"))
    assert os.listdir(tmp_path / "a") == ["good"]


def test_build_once_lets_threads_wait_for_the_first(tmp_path):
    built = []

    def build(place):
        time.sleep(0.2)
        built.append(place)

    def ask(results):
        results.append(build_once(tmp_path / "a", build))

    results: list[bool] = []
    threads = [threading.Thread(target=ask, args=(results,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    assert len(built) == 1


def _build_in_process(folder, log):
    def build(place):
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("built\n")

    build_once(folder, build)
    assert folder.is_dir()


def test_build_once_lets_processes_wait_for_the_first(tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "a", tmp_path / "log")
    workers = [context.Process(target=_build_in_process, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
