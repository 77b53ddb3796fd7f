import csv
import json
import os
import sys

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from benchmarks.tracking.loggers import WandbOptions, finish, run_name, student_loggers
from ddoq.distillation.figures import image_sheet
from ddoq.errors import UserError

OFF = WandbOptions(mode="disabled")


class Tiny(L.LightningModule):
    """Logs a falling loss."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch[0]).square().mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)))


def train(loggers):
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=loggers,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Tiny())


def read_run(found):
    run, summary, code = None, {}, None
    for record in found:
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = record.run
        elif kind == "summary":
            summary |= {i.key: json.loads(i.value_json) for i in record.summary.update if i.key}
            nested = [i for i in record.summary.update if not i.key]
            summary |= {".".join(i.nested_key): json.loads(i.value_json) for i in nested}
        elif kind == "exit":
            code = record.exit.exit_code
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    return run, config, summary, code


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "sheet.png"
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    image_sheet(images, torch.tensor([0, 1]), torch.ones(2), ["a", "b"], path)
    return path


@pytest.fixture
def without_wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # `import wandb` raises ImportError


def curve(folder):
    (path,) = folder.rglob("metrics.csv")
    return list(csv.DictReader(path.open()))


def test_two_students_are_two_runs_with_config_summary_and_images(
    tmp_path, sheet, result_of, offline_records
):
    wandb = pytest.importorskip("wandb")
    before = {key: os.environ.get(key) for key in ("WANDB_MODE", "WANDB_CACHE_DIR")}
    results = [result_of(student="resnet18", top1=0.5), result_of(student="vit", top1=0.25)]
    for result in results:
        options = WandbOptions(group="suite", tags=["tag"])
        loggers = student_loggers(options, tmp_path / "students", result.cell, result.config)
        assert [type(logger) for logger in loggers] == [CSVLogger, WandbLogger]
        train(loggers)
        finish(loggers, result, sheet)
        assert wandb.run is None
    assert {key: os.environ.get(key) for key in before} == before
    runs = [
        read_run(offline_records(path)) for path in sorted((tmp_path / "students").rglob("*.wandb"))
    ]
    assert len(runs) == 2
    by_name = {run.display_name: (run, *rest) for run, *rest in runs}
    for result in results:
        run, config, summary, code = by_name[run_name(result.cell)]
        assert (run.project, run.run_group, run.job_type) == ("ddoq-bench", "suite", "student")
        assert list(run.tags) == ["tag"]
        assert config["recipe"] == result.config["recipe"]
        assert config["cell"]["student"] == result.cell.student
        assert summary["top1_last"] == result.metrics.top1_last
        assert summary["config_hash"] == result.config_hash
        assert summary["distilled_images._type"] == "image-file"
        assert code == 0
    assert len(list((tmp_path / "students").rglob("media/images/*.png"))) == 2
    assert len(list((tmp_path / "students").rglob("metrics.csv"))) == 2


def test_a_failed_student_ends_its_run_as_failed(tmp_path, result_of, offline_records):
    wandb = pytest.importorskip("wandb")
    result = result_of()
    loggers = student_loggers(WandbOptions(), tmp_path, result.cell, result.config)
    finish(loggers)
    assert wandb.run is None
    (path,) = tmp_path.rglob("*.wandb")
    assert read_run(offline_records(path))[3] == 1


def test_trouble_with_wandb_is_a_warning(tmp_path, result_of, monkeypatch):
    wandb = pytest.importorskip("wandb")
    result = result_of()
    loggers = student_loggers(WandbOptions(), tmp_path, result.cell, result.config)
    run = loggers[1].experiment
    real = run.finish

    def fail(**_):
        real()
        raise wandb.Error("no space left")

    monkeypatch.setattr(run, "finish", fail)
    with pytest.warns(UserWarning, match="no space left"):
        finish(loggers, result)


def test_everything_works_without_wandb(tmp_path, sheet, result_of, without_wandb):
    result = result_of()
    loggers = student_loggers(WandbOptions(), tmp_path, result.cell, result.config)
    assert [type(logger) for logger in loggers] == [CSVLogger]
    train(loggers)
    finish(loggers, result, sheet)
    losses = [float(line["train_loss"]) for line in curve(tmp_path)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_online_without_wandb_is_a_mistake(tmp_path, result_of, without_wandb):
    result = result_of()
    with pytest.raises(UserError, match="pip install wandb"):
        student_loggers(WandbOptions(mode="online"), tmp_path, result.cell, result.config)


def test_a_second_run_of_a_cell_starts_its_curve_anew(tmp_path, result_of, recwarn):
    result = result_of()
    for _ in range(2):
        (logger,) = student_loggers(OFF, tmp_path, result.cell, result.config)
        logger.log_metrics({"top1": 0.5}, step=1)
        finish([logger], result)
    assert len(curve(tmp_path)) == 1
    assert [str(w.message) for w in recwarn if "not empty" in str(w.message)] == []


def test_cells_of_equal_names_have_folders_of_their_own(tmp_path, result_of):
    for power in (0.5, 1.0):
        result = result_of(settings={"power": power}, student="a/b c")
        student_loggers(OFF, tmp_path, result.cell, result.config)
    folders = [path.name for path in tmp_path.iterdir()]
    assert len(folders) == 2
    assert all(name.startswith("ddoq-ipc10-a_b_c-s0-") for name in folders)
