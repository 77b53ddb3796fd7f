"""The commands on a folder of images without classes: from KRR-ST to a table of transfer, and what they refuse."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.cli import main
from benchmarks.results.files import read_results
from benchmarks.results.transfers import TRANSFERS
from ddoq.storage.run_folder import RunFolder

TARGET = "[{class_path: Digits, init_args: {image_size: 16, limit_per_class: 4, test_limit_per_class: 2}}]"


@pytest.fixture
def arguments(tmp_path):
    """Name a folder of images, a tiny method, and a student."""
    generator = torch.Generator().manual_seed(0)
    folder = tmp_path / "photos" / "all"
    folder.mkdir(parents=True)
    for number in range(12):
        pixels = torch.randint(0, 256, (3, 16, 16), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
    teacher = {"arch": "convnet1-w4-bn", "stem": None, "epochs": 1, "batch_size": 6, "hidden": 8}
    method = {
        "ipc": 6,
        "arch": "convnet1-w4-bn",
        "iterations": 2,
        "batch_real": 8,
        "pool_size": 1,
        "pool_age": 3,
        "target_model": {"class_path": "BarlowTwins", "init_args": teacher},
    }
    config = {
        "data": {
            "class_path": "ImageFolderImages",
            "init_args": {
                "root": str(folder.parent),
                "dataset_name": "photos",
                "image_size": 16,
                "train_folder": ".",
                "test_folder": ".",
            },
        },
        "model": {"class_path": "KRRST", "init_args": method},
        "students": [{"arch": "convnet2-w4-bn"}],
        "evaluation": {"transfer": {"pretrain_epochs": 1, "iterations": 1}},
        "wandb": {"mode": "disabled"},
        "output": str(tmp_path / "runs"),
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    return ["--config", str(path), "--trainer.accelerator=cpu"]


def test_a_folder_without_classes_from_distillation_to_the_table(arguments, tmp_path, capsys):
    given = [*arguments, f"--evaluation.transfer.targets={TARGET}"]
    assert main(["fit", *given]) == 0
    printed = capsys.readouterr().out
    assert "6 images by krr_st" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("convnet2-w4-bn  digits")]
    assert row.count("(n=1)") == 6
    records, problems = TRANSFERS.read_all(tmp_path / "runs")
    assert (len(records), problems) == (3, [])
    assert read_results(tmp_path / "runs") == ([], [])
    assert main(["leaderboard", str(tmp_path / "runs")]) == 0
    assert "From photos to digits" in capsys.readouterr().out
    # A given set has no method, hence no control.
    folder = next((tmp_path / "runs" / "distilled").iterdir())
    again = ["evaluate", *given, f"--distilled={folder}", f"--output={tmp_path / 'other'}"]
    assert main(again) == 0
    starts = {record.cell.start for record in TRANSFERS.read_all(tmp_path / "other")[0]}
    assert starts == {"krr_st", "not pre-trained"}


def test_without_a_task_with_classes_nothing_is_distilled(arguments, tmp_path, capsys):
    assert main(["fit", *arguments]) == 2
    assert "evaluation.transfer.targets" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "ingredients").exists()
    assert not RunFolder(tmp_path / "runs").results.exists()


def test_mistakes_in_the_protocol_name_the_key(arguments, capsys):
    assert main(["fit", *arguments, "--evaluation.transfer.iterations=0"]) == 2
    assert "evaluation.transfer.iterations must be at least 1" in capsys.readouterr().err
    assert main(["fit", *arguments, "--evaluation.transfer.epochs=3"]) == 2
    assert "epochs" in capsys.readouterr().err
    large = "[{class_path: Digits, init_args: {image_size: 32}}]"
    assert main(["fit", *arguments, f"--evaluation.transfer.targets={large}"]) == 2
    assert "set its image_size to 16" in capsys.readouterr().err
