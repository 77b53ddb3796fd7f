from benchmarks.cli import main
from ddoq.distillation.distilled_set import DistilledSet


def test_import_of_a_foreign_folder(tmp_path, stored, foreign, capsys):
    args = [str(foreign), "--classes", str(tmp_path / "set"), "--method", "rded", "--collage", "2"]
    assert main(["import", *args, "--image-size", "6", "--output", str(tmp_path / "out")]) == 0
    loaded = DistilledSet.load(tmp_path / "out")
    assert loaded.images.shape == (2, 3, 6, 6)
    assert loaded.class_names == ["cat", "dog"]
    assert loaded.metadata["class_keys"] == ["n1", "n2"]
    assert loaded.metadata["imported"]["codec"] == "jpeg"
    assert "codec jpeg" in capsys.readouterr().out


def test_import_with_the_classes_of_the_source(tmp_path, foreign):
    args = [str(foreign), "--classes", "source", "--method", "x", "--output", str(tmp_path / "out")]
    assert main(["import", *args]) == 0
    assert DistilledSet.load(tmp_path / "out").class_names == ["00000", "00001"]
