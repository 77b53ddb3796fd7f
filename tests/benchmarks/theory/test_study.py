from types import SimpleNamespace

import pytest
import torch

from benchmarks.theory.codebooks import ALL_POINTS, weightings
from benchmarks.theory.options import TheoryOptions
from benchmarks.theory.record import read_record
from benchmarks.theory.report import report_text, write_report
from benchmarks.theory.study import TheoryStudy
from ddoq.ddoq import DDOQ
from ddoq.errors import UserError
from ddoq.priors.base import Sampling
from ddoq.quantization import quantize

OPTIONS = TheoryOptions(
    ipc=[1, 2, 4],
    quantizers=["lloyd", "d4m", "random"],
    decode=["vae", "diffusion"],
    checkpoints=[0, 3],
    arch="convnet2-w4",
)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("theory")


@pytest.fixture
def make_study(coloured_noise, pooling_prior, output):
    def make(options=OPTIONS, seeds=(0, 1), folder=output, **given):
        bench = SimpleNamespace(
            dataset=coloured_noise(),
            distiller=DDOQ(ipc=1, sampling=Sampling(num_inference_steps=2), batch_size=16),
            trainer=SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu"))),
            seeds=list(seeds),
            prior=pooling_prior,
            output=folder,
        )
        return TheoryStudy(SimpleNamespace(**{**vars(bench), **given}), options)

    return make


def values_of(record):
    """Return what was measured, without the seconds that it took."""
    return [{k: v for k, v in cell.items() if k != "seconds"} for cell in record["cells"]]


def test_a_study_measures_every_cell_and_reports_them(make_study, tmp_path):
    study = make_study()
    record = study.run()
    assert read_record(study.record) == record
    assert len(record["cells"]) == 2 * (3 * 3 + 1)
    (all_points,) = (c for c in record["cells"] if (c["seed"], c["quantizer"]) == (0, ALL_POINTS))
    for line in all_points["gaps"]["latents"]:  # K = n with its weights: the same measure
        assert line["gaps"]["uniform"]["relative"] < 1e-5
    assert all_points["gaps"]["vae"][0]["gaps"]["uniform"]["relative"] > 1e-3  # what decoding costs
    first = next(c for c in record["cells"] if (c["quantizer"], c["ipc"]) == ("random", 4))
    assert set(first["gaps"]) == {"latents", "latents-conv", "vae", "diffusion", "real"}
    assert set(first["w2"]["train"]) == {"cells", "uniform", "permuted"}
    assert first["w2"]["train"]["cells"] <= min(first["w2"]["train"].values())
    assert [line["step"] for line in first["gaps"]["real"]] == [0, 3]
    assert len(record["dimension"]["two_nn"]) == 3

    write_report(record, tmp_path / "theory.md")
    text = (tmp_path / "theory.md").read_text()
    assert "Rate of lloyd" in text
    assert "Zador" in text
    for name in ("rates", "gaps", "bound"):
        assert (tmp_path / f"theory-{name}.png").stat().st_size > 10_000
    assert report_text(read_record(study.record), tmp_path / "theory.md") == text


def test_a_second_run_measures_only_what_is_missing(make_study, capsys):
    whole = make_study().run()
    study = make_study()
    lost = study._run.theory_cell(study.folder, 1, "d4m", 2)
    lost.unlink()
    damaged = study._run.theory_cell(study.folder, 0, "lloyd", 4)
    damaged.write_text(damaged.read_text().replace('"seed": 0', '"seed": 7'))
    cells = []
    measure = study._measure
    study._measure = lambda *cell: (cells.append(cell), measure(*cell))[1]
    capsys.readouterr()
    assert values_of(study.run()) == values_of(whole)
    assert sorted(cells) == [(0, "lloyd", 4), (1, "d4m", 2)]
    assert "20 cells, 19 of them kept" in capsys.readouterr().out


def test_other_budgets_share_the_cells(make_study):
    make_study().run()
    other = make_study(TheoryOptions(**{**vars(OPTIONS), "ipc": [2], "quantizers": ["random"]}))
    other._measure = None  # nothing is left to measure
    assert len(other.run()["cells"]) == 2 * 2


def test_one_seed_one_budget_and_no_images_are_reported_too(make_study, tmp_path):
    options = TheoryOptions(ipc=[2], quantizers=["lloyd"], decode=[], checkpoints=[0])
    record = make_study(options, seeds=[3], folder=tmp_path).run()
    assert {name for cell in record["cells"] for name in cell["gaps"]} == {
        "latents",
        "latents-conv",
    }
    text = report_text(record, tmp_path / "theory.md")
    assert "no exponent was fitted" in text
    assert "one seed: nothing can be said" in text


def test_permuted_weights_are_the_same_masses():
    points = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).exp()
    shares = weightings([quantize(points, 9, method="d4m")], seed=0)
    cells, permuted = shares["cells"][0], shares["permuted"][0]
    assert torch.equal(cells.sort().values, permuted.sort().values)
    assert not torch.equal(cells, permuted)
    assert set(shares) == {"cells", "uniform", "permuted", "online"}
    for part in shares.values():
        assert float(part[0].sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"distiller": None}, "the configuration names no method"),
        (
            {"distiller": SimpleNamespace(method="sre2l")},
            "names 'sre2l'.*configs/methods/ddoq.yaml",
        ),
        ({"options": TheoryOptions(ipc=[50])}, "asks for 50 centroids.*smallest class has 20"),
        ({"options": TheoryOptions(arch="resnet10t")}, "without batch norm and dropout"),
        ({"options": TheoryOptions(arch="convnet9")}, "convnet9 halves the map"),
    ],
)
def test_what_cannot_be_measured_is_refused(make_study, tmp_path, change, told):
    with pytest.raises(UserError, match=told):
        make_study(folder=tmp_path, **change)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"kind": "ddoq-bench result"}')
    with pytest.raises(UserError, match=r"a.json is no record of `ddoq-bench theory`"):
        read_record(tmp_path / "a.json")
    with pytest.raises(UserError, match="does not exist"):
        read_record(tmp_path / "b.json")
