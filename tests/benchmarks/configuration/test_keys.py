import pytest
import yaml

from benchmarks.commands.configured import BenchCLI
from benchmarks.configuration.keys import KEYS, annotations
from benchmarks.suites.file import AFTER_DISTILLATION, OWN, read_suite
from ddoq.errors import UserError


def test_every_key_has_a_type():
    assert list(annotations()) == list(KEYS)


def test_the_parser_knows_these_keys_and_no_others(capsys):
    with pytest.raises(SystemExit):  # after printing
        BenchCLI("fit", ["--data=Digits", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert list(printed) == [name for name in KEYS if name != "config"]
    for name in ("students", "seeds", "output", "force"):
        assert printed[name] == KEYS[name].default


def test_the_help_of_a_command_describes_them(capsys):
    with pytest.raises(SystemExit) as end:
        BenchCLI("fit", ["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("usage: ddoq-bench fit")
    described = [name for name in KEYS if name not in ("config", "seed_everything", "trainer")]
    assert [name for name in described if KEYS[name].help.rstrip(".") not in shown] == []


def test_a_suite_varies_sets_itself_or_leaves_alone(tmp_path):
    assert {"students", "seeds", "output", "report"} == set(OWN)
    assert set(AFTER_DISTILLATION) < {name for name, key in KEYS.items() if key.vary}
    for name, key in KEYS.items():
        assert not (key.vary and key.instead)
        suite = tmp_path / "suite.yaml"
        suite.write_text(yaml.safe_dump({"configs": ["x.yaml"], "grid": {f"{name}.x": [1]}}))
        if key.vary:
            assert read_suite(suite)["grid"]
        else:
            with pytest.raises(UserError, match=key.instead or "unknown key"):
                read_suite(suite)
