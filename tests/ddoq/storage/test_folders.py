"""Folders that are filled once: by whoever asks first, whole or not at all, and checked by their manifest."""

import multiprocessing
import os
import shutil
import threading
import time

import pytest

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_json
from ddoq.storage.folders import (
    MANIFEST,
    build_once,
    check_given_folder,
    check_manifest,
    obtain_folder,
)


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
    assert set(os.listdir(tmp_path / "a")) == {"good", MANIFEST}
    assert not [name for name in os.listdir(tmp_path) if "unfinished" in name]


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


def fill(place):
    (place / "part").mkdir()
    (place / "part" / "weights").write_bytes(bytes(range(256)) * 4)
    (place / "config.json").write_text('{"steps": 10}')
    (place / "samples.png").write_bytes(b"picture")


def flip(path, position=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "flip": flip,
    "last": lambda path: flip(path, -1),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["part/weights", "config.json", MANIFEST])
def test_damage_to_any_file_sets_the_folder_aside_and_builds_it_anew(
    tmp_path, capsys, name, damage
):
    folder = tmp_path / "prior-01"
    build_once(folder, fill)
    whole = {path: (folder / path).read_bytes() for path in ("part/weights", "config.json")}
    DAMAGES[damage](folder / name)
    if (name, damage) == (MANIFEST, "missing"):  # as of an earlier version, which had none
        assert not build_once(folder, fill)
        assert f"{folder} has no {MANIFEST}" in capsys.readouterr().err
        return
    damaged = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert build_once(folder, fill)
    assert {path: (folder / path).read_bytes() for path in whole} == whole
    error = capsys.readouterr().err
    assert str(folder / name) in error
    assert f"set aside as {folder}.damaged-1; it is made again" in error
    kept = folder.with_name("prior-01.damaged-1")
    assert {kept / p.relative_to(folder): c for p, c in damaged.items()} == {
        p: p.read_bytes() for p in kept.rglob("*") if p.is_file()
    }
    assert not build_once(folder, fill)


def test_pictures_and_files_that_were_added_are_left_alone(tmp_path):
    build_once(tmp_path / "a", fill)
    (tmp_path / "a" / "samples.png").unlink()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert check_manifest(tmp_path / "a")
    assert not build_once(tmp_path / "a", fill)


def test_the_manifest_is_of_contents_alone(tmp_path):
    for name in ("a", "b"):
        build_once(tmp_path / name, fill)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert read_json(tmp_path / "a" / MANIFEST) == read_json(tmp_path / "b" / MANIFEST)
    assert check_manifest(tmp_path / "c")


def test_several_damaged_folders_are_all_kept(tmp_path):
    for _ in range(3):
        build_once(tmp_path / "a", fill)
        (tmp_path / "a" / "config.json").unlink()
    assert build_once(tmp_path / "a", fill)
    assert {f"a.damaged-{number}" for number in (1, 2, 3)} < set(os.listdir(tmp_path))


def test_a_given_folder_is_refused_with_the_file_and_the_mend(tmp_path):
    build_once(tmp_path / "a", fill)
    check_given_folder(tmp_path / "a", "ddoq-bench prior")
    flip(tmp_path / "a" / "part" / "weights")
    with pytest.raises(DamagedError, match=r"weights is corrupt.*Copy .* again.*ddoq-bench prior"):
        check_given_folder(tmp_path / "a", "ddoq-bench prior")
    (tmp_path / "a" / MANIFEST).unlink()
    check_given_folder(tmp_path / "a", "ddoq-bench prior")  # as a folder of others


def load(folder):
    if (folder / "config.json").read_text() != '{"steps": 10}':
        raise UserError(f"{folder} cannot be loaded.")
    return "loaded"


def test_an_old_folder_that_cannot_be_loaded_is_built_anew(tmp_path, capsys):
    folder = tmp_path / "a"
    assert obtain_folder(folder, fill, load) == ("loaded", True)
    assert obtain_folder(folder, fill, load) == ("loaded", False)
    (folder / MANIFEST).unlink()
    assert obtain_folder(folder, fill, load) == ("loaded", False)
    flip(folder / "config.json", 10)
    assert obtain_folder(folder, fill, load) == ("loaded", True)
    assert "cannot be loaded: set aside as" in capsys.readouterr().err
    assert check_manifest(folder)


def test_what_is_as_it_was_written_is_never_built_twice(tmp_path):
    def refuse(folder):
        raise UserError("another version is needed.")

    for _ in range(2):
        with pytest.raises(UserError, match="another version"):
            obtain_folder(tmp_path / "a", fill, refuse)
    assert not [name for name in os.listdir(tmp_path) if "damaged" in name]
