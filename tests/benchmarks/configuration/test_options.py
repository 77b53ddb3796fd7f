from benchmarks.commands.configured import BenchCLI
from benchmarks.configuration.layers import expand
from benchmarks.configuration.options import loose, overlay, read


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_what_each_option_says_is_read_in_order(tmp_path):
    path = str(write(tmp_path, "a.yaml", "seeds: [1]"))
    arguments = [
        "--config",
        path,
        "--recipe.name",
        "hard",
        "--wandb.tags+=[a]",
        "loose",
        "-c",
        path,
    ]
    seeds = (path, {"seeds": [1]})
    options = [("", {"recipe": {"name": "hard"}}), ("", {"wandb": {"tags": ["a"]}})]
    assert list(read(arguments)) == [seeds, *options, seeds]
    assert loose(arguments) == ["loose"]
    assert list(read(["--output=a: b: c"])) == [("", {"output": "a: b: c"})]  # no YAML


def test_an_overlay_wins_over_files_and_options(tmp_path, capsys):
    text = "data: {class_path: Digits}\nstudents: [{arch: resnet18, stem: small}]\nseeds: [1, 2]"
    given = ["--config", str(write(tmp_path, "a.yaml", text)), "--data.limit_per_class=7"]
    content = {
        "students": [{"arch": "vit"}],
        "seeds": [3],
        "data": {"init_args": {"test_limit_per_class": None}},
    }
    arguments = overlay(expand(given), {**content, "output": "x: y"})
    assert list(read(arguments))[-1] == ("", {**content, "output": "x: y"})
    config = BenchCLI("fit", arguments).resolved()
    assert config["seeds"] == [3]
    assert [config["students"][0][key] for key in ("arch", "stem")] == ["vit", None]
    assert config["output"] == "x: y"
    assert config["data"]["class_path"] == "ddoq.data.Digits"
    assert config["data"]["init_args"]["limit_per_class"] == 7
