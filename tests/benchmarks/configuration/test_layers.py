import pytest
import yaml

from benchmarks.cli import main
from benchmarks.configuration.layers import expand, layers, paired, resolve
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


@pytest.fixture
def tree(tmp_path):
    """Datasets, methods and scales, with files for some pairs of them."""
    write(
        tmp_path, "datasets/digits.yaml", "data: {class_path: Digits, init_args: {image_size: 8}}"
    )
    write(tmp_path, "datasets/cifar10.yaml", "x: 1")
    write(tmp_path, "methods/sre2l.yaml", "x: 1")
    write(tmp_path, "methods/ddoq.yaml", "x: 1")
    write(tmp_path, "scales/cpu.yaml", "data: {init_args: {limit_per_class: 5}}")
    write(tmp_path, "papers/base.yaml", "x: 1")
    write(tmp_path, "papers/digits/sre2l.yaml", "extends: [../base.yaml]")
    write(tmp_path, "scales/cpu/sre2l.yaml", "x: 1")
    return tmp_path


def names(files, folder):
    return [str(file.resolve().relative_to(folder)) for file in files]


def test_files_of_two_layers_are_read_after_both(tree):
    pair = ["papers/base.yaml", "papers/digits/sre2l.yaml"]
    dataset, method, scale = (
        tree / name for name in ("datasets/digits.yaml", "methods/sre2l.yaml", "scales/cpu.yaml")
    )
    both = ["datasets/digits.yaml", "methods/sre2l.yaml"]
    assert names(layers([dataset, method]), tree) == [*both, *pair]
    assert names(layers([method, dataset]), tree) == [*both[::-1], *pair]
    small = ["scales/cpu.yaml", "scales/cpu/sre2l.yaml"]
    assert names(layers([dataset, method, scale]), tree) == [*both, *pair, *small]
    mine = write(tree.parent, "mine.yaml", f"extends: [{dataset}, {method}]")
    assert names(layers([mine])[:-1], tree) == [*both, *pair]


def test_files_that_nobody_named_can_be_told(tree):
    named = [
        f"--config={tree / name}"
        for name in ("datasets/digits.yaml", "methods/sre2l.yaml", "scales/cpu.yaml")
    ]
    pairs = ["papers/digits/sre2l.yaml", "scales/cpu/sre2l.yaml"]
    assert names(paired(["--seeds=[1]", *named]), tree) == pairs
    assert paired(named[:1]) == []


def test_other_datasets_methods_and_folders_bring_no_file(tree, tmp_path_factory):
    digits, sre2l = tree / "datasets/digits.yaml", tree / "methods/sre2l.yaml"
    for one, other in (
        (tree / "datasets/cifar10.yaml", sre2l),
        (digits, tree / "methods/ddoq.yaml"),
        (write(tree.parent, "elsewhere/datasets/digits.yaml", "x: 1"), sre2l),
        (digits, write(tree.parent, "elsewhere/methods/sre2l.yaml", "x: 1")),
    ):
        assert layers([one, other]) == [one, other]
    later = [digits, sre2l, tree / "methods/ddoq.yaml"]
    assert layers(later) == later, "the last method counts"


def test_layers_are_told_from_within_their_folder(tree, monkeypatch):
    monkeypatch.chdir(tree / "methods")
    named = ["--config", "../datasets/digits.yaml", "--config", "sre2l.yaml"]
    assert expand(named)[-1].endswith("papers/digits/sre2l.yaml")


def test_options_keep_their_place(tree):
    given = ["--config", str(tree / "datasets/digits.yaml"), "--seeds=[1]"]
    given += ["--config", str(tree / "methods/sre2l.yaml"), "--model.init_args.ipc=3"]
    expanded = expand(given)
    assert expanded.index("--seeds=[1]") == 2
    assert expanded[-2].endswith("papers/digits/sre2l.yaml")
    assert expanded[-1] == "--model.init_args.ipc=3"


def test_a_file_may_change_a_class_that_an_earlier_one_names(tree, capsys):
    named = [f"--config={tree / name}" for name in ("datasets/digits.yaml", "scales/cpu.yaml")]
    with pytest.raises(SystemExit):  # after printing
        main(["fit", *named, "--print_config"])
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert data["class_path"].endswith("Digits")
    assert (data["init_args"]["image_size"], data["init_args"]["limit_per_class"]) == (8, 5)
    assert expand(["--data=Digits", named[1]])[0] == "--data=Digits"
    with pytest.raises(UserError, match=r"cpu\.yaml changes `data` .*\(dataset, method, scale\)"):
        expand(named[::-1])


def shown_recipe(capsys, *given):
    with pytest.raises(SystemExit):
        main(["fit", *given, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)["recipe"]


def test_overrides_of_one_recipe_add_up(tmp_path, capsys):
    table = "{1: [1.0, 1.0], 128: [0.5, 1.0]}"
    kept = f"flip: false, labels: hard, loss: ce, crop_scale: {table}"
    one = write(
        tmp_path, "one.yaml", f"recipe: {{name: unified, overrides: {{epochs: 9, {kept}}}}}"
    )
    two = write(tmp_path, "two.yaml", "recipe: {name: unified, overrides: {epochs: 3}}")
    expected = {**yaml.safe_load(f"{{{kept}}}"), "epochs": 3}
    named = [f"--config={path}" for path in (one, two)]
    assert shown_recipe(capsys, *named) == {"name": "unified", "overrides": expected}
    nameless = write(tmp_path, "nameless.yaml", "recipe: {overrides: {epochs: 3}}")
    recipe = shown_recipe(capsys, named[0], f"--config={nameless}")
    assert recipe == {"name": "unified", "overrides": expected}


def test_another_recipe_has_overrides_of_its_own(tmp_path, capsys):
    one = write(tmp_path, "one.yaml", "recipe: {name: unified, overrides: {flip: false}}")
    two = write(tmp_path, "two.yaml", "recipe: {name: sre2l, overrides: {epochs: 3}}")
    given = [f"--config={path}" for path in (one, two)]
    assert shown_recipe(capsys, *given) == {"name": "sre2l", "overrides": {"epochs": 3}}
    other = write(tmp_path, "other.yaml", "recipe: {name: sre2l}")  # as --recipe.name does
    given = [f"--config={path}" for path in (one, other)]
    assert shown_recipe(capsys, *given) == {"name": "sre2l", "overrides": {"flip": False}}


def test_a_value_inside_of_itself_is_refused(tmp_path):
    """A wrapper around itself, as YAML could write it."""
    text = "model: &m {class_path: PDD, init_args: {base: *m}}"
    path = write(tmp_path, "self.yaml", text)
    with pytest.raises(
        UserError, match=r"self\.yaml: `model\.init_args\.base` is inside of itself"
    ):
        resolve(path)
    path = write(tmp_path, "list.yaml", "a: &l [1, *l]")
    with pytest.raises(UserError, match=r"`a\.1` is inside of itself"):
        resolve(path)
    write(tmp_path, "twice.yaml", "a: &x {b: 1}\nc: [*x, *x]")
    assert resolve(tmp_path / "twice.yaml") == [tmp_path / "twice.yaml"]


@pytest.mark.parametrize(
    "options",
    [
        ["--model.init_args.target_model.init_args.stem=null"],
        ["--model.init_args.target_model.init_args.stem", "null"],
        ['--model.init_args.target_model.init_args={"stem": null, "epochs": 7}'],
    ],
    ids=["equals", "space", "several"],
)
def test_null_of_a_class_within_a_class_is_no_text(capsys, options):
    krr_st = ["--model", "KRRST", "--model.ipc", "1", "--model.target_model", "BarlowTwins"]
    seven = ["--model.init_args.target_model.init_args.epochs=7"]
    with pytest.raises(SystemExit):  # after printing
        main(["fit", "--data", "Digits", *krr_st, *seven, *options, "--print_config"])
    target = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["target_model"]
    assert target["init_args"]["stem"] is None
    assert target["init_args"]["epochs"] == 7
