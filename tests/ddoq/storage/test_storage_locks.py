import os
import signal
import threading

import pytest
from filelock import Timeout
from killing import Fork

from ddoq.storage.folders import build_once
from ddoq.storage.locks import locked


def hold(path, ready) -> int:
    with locked(path, "waiting"):
        ready.touch()
        signal.pause()
    return 0


def test_a_lock_is_waited_for_and_the_user_is_told(tmp_path, capsys):
    path, entered = tmp_path / "folder" / ".lock", threading.Event()

    def enter() -> None:
        with locked(path, "waiting for it"):
            entered.set()

    with locked(path, "waiting"):
        with pytest.raises(Timeout), locked(path, "waiting", wait=False):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        said = ""
        while "waiting for it\n" not in said:
            said += capsys.readouterr().out
            assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_the_lock_of_a_killed_process_is_free(tmp_path, capsys):
    fork = Fork(tmp_path / "printed", hold, tmp_path / ".lock", tmp_path / "ready")
    fork.wait_for((tmp_path / "ready").exists)
    fork.signal(signal.SIGKILL)
    assert fork.status() == -signal.SIGKILL
    with locked(tmp_path / ".lock", "waiting"):
        pass
    assert capsys.readouterr().out == ""


def test_a_product_whose_builder_is_killed_is_built_by_who_waits(tmp_path):
    folder, ready = tmp_path / "product", tmp_path / "ready"

    def half(place) -> None:
        (place / "half").touch()
        ready.touch()
        signal.pause()

    def build(place) -> None:
        (place / "whole").write_text(str(os.getpid()))

    first = Fork(tmp_path / "1", lambda: int(build_once(folder, half)))
    first.wait_for(ready.exists)
    second = Fork(tmp_path / "2", lambda: int(build_once(folder, build)))
    second.wait_for(lambda: "another process makes it" in second.output.read_text())
    first.signal(signal.SIGKILL)
    assert second.status() == 1
    assert first.status() == -signal.SIGKILL
    assert {file.name for file in folder.iterdir()} == {"whole", "manifest.json"}
