import os
import threading
import time

import pytest

from ddoq.data import hashing
from ddoq.data.hashing import content_hashes, kept_hashes_folder
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_files


class Counting:
    """Hashes files one by one and remembers which it read."""

    def __init__(self):
        self.read = []

    def __call__(self, files):
        self.read += [file.name for file in files]
        return [hash_files([file]) for file in files]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keep hashes of anything, in a folder of the test's own."""
    monkeypatch.setenv("DDOQ_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "_WORTH_KEEPING", 0)
    return tmp_path / "cache"


def files_of(folder, names=("a", "b", "c"), age=100.0):
    """Write files that look as old as all but the file system's second date can."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"contents of {name}")
        os.utime(folder / name, (time.time() - age,) * 2)
    return {"first": [folder / names[0], folder / names[1]], "second": [folder / names[2]]}


@pytest.fixture
def old(monkeypatch):
    """Take files of any age for settled: a test cannot set the date of the last change of status."""
    monkeypatch.setattr(hashing, "_SETTLED", -60.0)


def test_a_second_run_reads_nothing_and_gives_the_same(cache, old, tmp_path, capsys):
    groups, counting = files_of(tmp_path / "data"), Counting()
    found = content_hashes("here", groups, counting)
    assert found == {name: [hash_files([f]) for f in files] for name, files in groups.items()}
    assert content_hashes("here", groups, counting) == found
    assert counting.read == ["a", "b", "c"]
    assert capsys.readouterr().out.count("data: hashing 0.0 of 0.0 GiB in here, once") == 1
    assert content_hashes("elsewhere", groups, counting) == found
    assert len(counting.read) == 6


def test_only_the_group_that_changed_is_read_again(cache, old, tmp_path):
    groups, counting = files_of(tmp_path / "data"), Counting()
    before = content_hashes("here", groups, counting)
    (tmp_path / "data" / "c").write_text("other")
    after = content_hashes("here", groups, counting)
    assert counting.read == ["a", "b", "c", "c"]
    assert after["first"] == before["first"]
    assert after["second"] != before["second"]


def test_a_file_of_the_same_size_and_date_is_noticed(cache, old, tmp_path):
    groups, counting = files_of(tmp_path / "data"), Counting()
    before = content_hashes("here", groups, counting)
    file = tmp_path / "data" / "c"
    stat = file.stat()
    time.sleep(0.02)
    file.write_text("CONTENTS of c")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert content_hashes("here", groups, counting)["second"] != before["second"]


def test_a_part_leaves_the_hashes_of_the_rest(cache, old, tmp_path):
    groups, counting = files_of(tmp_path / "data"), Counting()
    content_hashes("here", groups, counting)
    content_hashes("here", {"third": [tmp_path / "data" / "a"]}, counting)
    content_hashes("here", groups, counting)
    assert counting.read == ["a", "b", "c", "a"]


def test_files_that_are_still_young_are_not_trusted(cache, tmp_path):
    groups, counting = files_of(tmp_path / "data", age=0.0), Counting()
    content_hashes("here", groups, counting)
    content_hashes("here", groups, counting)
    assert len(counting.read) == 6


def test_small_datasets_leave_nothing_behind(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(hashing, "_WORTH_KEEPING", 2**28)
    groups, counting = files_of(tmp_path / "data"), Counting()
    assert content_hashes("here", groups, counting) == content_hashes("here", groups, counting)
    assert len(counting.read) == 6
    assert not cache.exists()


@pytest.mark.parametrize(
    "garbage", ["{", "[]", '{"format": 1}', '{"format": 1, "groups": {"first": 3}}']
)
def test_a_spoilt_cache_is_as_good_as_none(cache, old, tmp_path, garbage):
    groups = files_of(tmp_path / "data")
    found = content_hashes("here", groups, Counting())
    (store,) = (cache / "hashes").glob("*.json")
    store.write_text(garbage)
    assert content_hashes("here", groups, Counting()) == found
    counting = Counting()
    assert content_hashes("here", groups, counting) == found
    assert counting.read == []


def test_a_cache_that_cannot_be_written_is_a_warning(cache, tmp_path, capsys):
    cache.write_text("a file where the folder should be")
    groups = files_of(tmp_path / "data")
    assert content_hashes("here", groups, Counting())["second"] == [hash_files(groups["second"])]
    printed = capsys.readouterr().out
    assert "WARNING hashes of the dataset cannot be kept" in printed
    assert "set DDOQ_BENCH_CACHE" in printed


def test_a_file_that_has_gone_is_named(cache, tmp_path):
    with pytest.raises(UserError, match=r"gone.*cannot be read"):
        content_hashes("here", {"first": [tmp_path / "gone"]}, Counting())


def test_processes_that_come_together_hash_once(cache, old, tmp_path):
    groups, counting = files_of(tmp_path / "data"), Counting()
    found = []
    run = [
        threading.Thread(target=lambda: found.append(content_hashes("here", groups, counting)))
        for _ in range(4)
    ]
    for thread in run:
        thread.start()
    for thread in run:
        thread.join()
    assert len(counting.read) == 3
    assert all(item == found[0] for item in found)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DDOQ_BENCH_CACHE", str(tmp_path))
    assert kept_hashes_folder() == tmp_path
    monkeypatch.delenv("DDOQ_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert kept_hashes_folder() == tmp_path / "xdg" / "ddoq-bench"
