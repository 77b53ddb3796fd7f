"""Files that lie around are not run because a configuration names them."""

import sys

import pytest

from benchmarks.cli import main
from benchmarks.commands.configured import configure
from benchmarks.configuration.local_code import installed_code, take_flag
from ddoq.errors import UserError

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from baselines.random_selection import RandomSelection
class Local(RandomSelection):
    method = "local-test"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "evilmod.py").write_text(CODE)
    package = tmp_path / "evilpackage"
    package.mkdir()
    (package / "inner.py").write_text(CODE.replace("__file__", repr(str(tmp_path / "x"))))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("evil"):
            del sys.modules[name]


@pytest.mark.parametrize("module", ["evilmod", "evilpackage.inner"])
@pytest.mark.parametrize(
    "option",
    ["--model={}.Local", "--model.class_path={}.Local", "--data={}.X", "--trainer.callbacks={}.X"],
)
def test_nothing_of_a_local_module_is_run(module, option, folder, capsys):
    given = ["fit", "--data=Digits", "--model=RandomSelection", "--model.ipc=1"]
    for more in ([], ["--smoke=true"]):
        assert main([*given, option.format(module), *more]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"The module {module.split('.')[0]!r} ({folder}" in said
        assert "--allow-local-code true" in said
    assert not (folder / "ran").exists()


def test_a_user_may_allow_it(folder):
    path = folder / "mine.yaml"
    path.write_text("data: Digits\nmodel: {class_path: evilmod.Local, init_args: {ipc: 1}}\n")
    cli = configure("fit", ["--config", str(path), "--allow-local-code", "true"])
    assert cli.model.method == "local-test"
    assert "allow" not in str(cli.resolved()), "no part of what is stored and hashed"


def test_no_file_can_allow_itself(folder, capsys):
    path = folder / "mine.yaml"
    path.write_text("data: Digits\nallow_local_code: true\nmodel: evilmod.Local\n")
    assert main(["fit", "--config", str(path)]) == 2
    assert "Unknown key 'allow_local_code'" in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_installed_modules_and_those_at_hand_stay(folder, monkeypatch):
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    (folder / "tabnanny.py").write_text(CODE)  # one of Python's own, shadowed
    with installed_code([], allow_local=False):
        import tabnanny

        import ddoq.ddoq  # noqa: F401
    assert hasattr(tabnanny, "process_tokens")
    assert not (folder / "ran").exists()


def test_mistakes_elsewhere_keep_their_message(folder):
    def mistake():
        with installed_code(["a.b"], allow_local=False):
            try:
                import evilmod  # noqa: F401
            except ImportError:
                raise UserError("mine") from None

    with pytest.raises(UserError, match=r"^mine$"):
        mistake()


def test_the_flag_is_no_key():
    for flag in (
        ["--allow-local-code"],
        ["--allow_local_code=true"],
        ["--allow-local-code", "true"],
    ):
        assert take_flag([*flag, "--a"]) == (["--a"], True)
    assert take_flag(["--a", "--allow-local-code=false"]) == (["--a"], False)
    with pytest.raises(UserError, match="must be true or false, not 'maybe'"):
        take_flag(["--allow-local-code=maybe"])
