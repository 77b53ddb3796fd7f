import pytest
import yaml

from benchmarks.cli import main
from benchmarks.configuration.layers import expand, resolve
from ddoq.errors import UserError


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_bases_come_first_and_each_once(tmp_path):
    write(tmp_path, "parts/a.yaml", "x: 1")
    write(tmp_path, "parts/b.yaml", "extends: [a.yaml]\ny: 1")
    top = write(tmp_path, "top.yaml", "extends: [parts/a.yaml, parts/b.yaml]")
    assert [file.name for file in resolve(top)] == ["a.yaml", "b.yaml", "top.yaml"]


@pytest.mark.parametrize("form", [["--config", "{}"], ["-c", "{}"], ["--config={}"]])
def test_every_form_of_the_flag_is_expanded(tmp_path, form):
    write(tmp_path, "a.yaml", "x: 1")
    top = write(tmp_path, "top.yaml", "extends: [a.yaml]")
    arguments = ["fit", *(part.format(top) for part in form), "--seeds", "[1]"]
    expected = ["fit", "--config", str(tmp_path / "a.yaml"), "--config", str(top), "--seeds", "[1]"]
    assert expand(arguments) == expected


def test_files_without_bases_stay_as_they_are(tmp_path):
    path = write(tmp_path, "a.yaml", "x: 1")
    assert expand(["fit", "--config", str(path)]) == ["fit", "--config", str(path)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: [missing.yaml]", r"missing\.yaml does not exist.*named by"),
        ("extends: [top.yaml]", "extends itself"),
        ("extends: other.yaml", "must be a list"),
        ("a: [1", "not valid YAML"),
        ("- 1\n- 2", "keys and values"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        resolve(write(tmp_path, "top.yaml", text))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        expand(["fit", "--config", str(tmp_path / "nowhere.yaml")])
    with pytest.raises(UserError, match="is a folder"):
        expand(["fit", "--config", str(tmp_path)])


def test_students_replace_those_before_and_inherit_nothing(tmp_path, capsys):
    first = "students: [{name: small, arch: resnet18, stem: small, lr: 0.01, kwargs: {width: 1}}]"
    one = write(tmp_path, "one.yaml", f"data: {{class_path: Digits}}\n{first}")
    two = write(tmp_path, "two.yaml", "extends: [one.yaml]\nstudents: [{arch: vit}]")
    assert expand(["fit", "--config", str(one)]) == ["fit", "--config", str(one)]
    assert expand(["fit", "--config", str(two)])[3:] == ["--students=[]", "--config", str(two)]
    by_option = ["--config", str(one), "--students=[{arch: vit}]"]
    for given in (["--config", str(two)], by_option):
        with pytest.raises(SystemExit):  # after printing
            main(["fit", *given, "--print_config"])
        (student,) = yaml.safe_load(capsys.readouterr().out)["students"]
        defaults = {"name": None, "stem": None, "lr": None, "kwargs": {}}
        assert student["arch"] == "vit"
        assert {key: student[key] for key in defaults} == defaults
