import pytest
from colour_teacher import colour_teacher
from latent_runs import forbid

from baselines.d4m import D4M
from baselines.random_selection import RandomSelection
from benchmarks.decoding.measuring import DecodingStudy
from benchmarks.decoding.options import DecodingOptions
from benchmarks.decoding.record import read_record
from benchmarks.decoding.running import measure_decoding, method_of, study_config
from benchmarks.run.bench import Bench, RecipeChoice
from benchmarks.tracking.loggers import WandbOptions
from ddoq.ddoq import DDOQ
from ddoq.errors import UserError
from ddoq.priors import PriorSource
from ddoq.teachers import TeacherSource

SMALL = DecodingOptions(strengths=[0.5, 1.0], guidances=[1.0])


class Given(PriorSource, TeacherSource):
    """Gives what it was given."""

    def __init__(self, part):
        self.part = part

    def obtain(self, data, cache, trainer):
        return self.part


@pytest.fixture
def bench_of(coloured_noise, pooling_prior, trainer, tmp_path):
    def make(**changes) -> Bench:
        data = coloured_noise()
        given = {
            "data": data,
            "distiller": DDOQ(2),
            "prior_source": Given(pooling_prior()),
            "teacher_source": Given(colour_teacher(data)),
            **changes,
        }
        return Bench(
            students=[],
            seeds=[0],
            recipe=RecipeChoice(),
            wandb=WandbOptions(),
            output=tmp_path / "runs",
            distilled=None,
            force=False,
            report=None,
            trainer=trainer,
            trainer_settings={},
            config={},
            **given,
        )

    return make


def test_it_writes_a_record_a_table_and_two_pictures_and_reuses_them(bench_of, tmp_path, capsys):
    record = measure_decoding(bench_of(), SMALL)
    assert "decoding: measured, in" in capsys.readouterr().out
    folder = tmp_path / "runs" / "decoding" / record.name
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"decoding.json", "decoding.md", "curve.png", "images.png"}
    assert read_record(folder / "decoding.json") == record
    assert record.reached
    assert record.picked in record.settings
    assert record.prior["reconstructed"] == 6
    bench = bench_of()
    forbid(bench.prior_source.part, "generate")
    assert measure_decoding(bench, SMALL) == record
    assert "decoding: reused, in" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / "images.png").unlink()
    (folder / "decoding.md").write_text("of an earlier record")
    (folder / "decoding.json").write_bytes(files["decoding.json"][:-9])
    measure_decoding(bench, SMALL)
    assert (folder / "images.png").read_bytes() == files["images.png"]
    assert (folder / "decoding.md").read_bytes() == files["decoding.md"]
    assert "set aside" in capsys.readouterr().err


def test_all_that_decides_the_numbers_decides_the_folder(bench_of, pooling_prior, coloured_noise):
    def config_of(options=SMALL, **changes):
        bench = bench_of(**changes)
        method = method_of(bench, options)
        prior, teacher = bench.prior(), bench.teacher()
        method.attach(bench.dataset, prior=prior)
        study = DecodingStudy(bench.data, method, teacher, options, bench.trainer, bench.output)
        return str(study_config(study))

    other_prior = pooling_prior()
    other_prior.fingerprint = "another"
    data = coloured_noise(per_class=10)
    changes = [
        config_of(),
        config_of(DecodingOptions(strengths=[0.5], guidances=[1.0])),
        config_of(DecodingOptions(strengths=[0.5, 1.0], guidances=[2.0])),
        config_of(DecodingOptions([0.5, 1.0], [1.0], ipc=3)),
        config_of(DecodingOptions([0.5, 1.0], [1.0], per_class=3)),
        config_of(distiller=DDOQ(2, seed=1)),
        config_of(distiller=D4M(2)),
        config_of(prior_source=Given(other_prior)),
        config_of(data=data, teacher_source=Given(colour_teacher(data))),
    ]
    assert len(set(changes)) == len(changes)
    assert config_of(DecodingOptions([1.0, 0.5], [1.0], per_class=2)) == changes[0]
    strength = DDOQ(2, sampling=DDOQ(2).sampling.__class__(0.9, 2.0))
    assert config_of(distiller=strength) == changes[0]  # these are what is varied


def test_a_method_that_decodes_nothing_is_told_so(bench_of, capsys):
    method = method_of(bench_of(distiller=RandomSelection(3, seed=5)), SMALL)
    assert (type(method), method.ipc, method.seed) == (DDOQ, 3, 5)
    assert "random decodes no centroids; those of DDOQ are measured" in capsys.readouterr().out
    assert method_of(bench_of(distiller=None), SMALL).ipc == 10
    fewer = method_of(bench_of(), DecodingOptions(ipc=1))
    assert fewer.ipc == 1


def test_what_does_not_fit_is_refused(bench_of, coloured_noise):
    other = colour_teacher(coloured_noise(classes=4))
    cases = [
        (bench_of(prior_source=None), SMALL, "No prior is configured"),
        (bench_of(teacher_source=None), SMALL, "No teacher is configured"),
        (bench_of(teacher_source=Given(other)), SMALL, "knows 4 classes"),
        (bench_of(), DecodingOptions(ipc=21), "ipc is 21"),
        (bench_of(), DecodingOptions(per_class=21), "--per-class is 21"),
        (bench_of(), DecodingOptions(strengths=[0.01]), "leaves none to run"),
    ]
    for bench, options, told in cases:
        with pytest.raises(UserError, match=told):
            measure_decoding(bench, options)


def test_a_new_format_of_records_has_a_folder_of_its_own(bench_of, tmp_path, monkeypatch):
    before = measure_decoding(bench_of(), SMALL)
    monkeypatch.setattr("benchmarks.decoding.running.RECORD_FORMAT", 1000)
    monkeypatch.setattr("benchmarks.decoding.record.RECORD_FORMAT", 1000)
    after = measure_decoding(bench_of(), SMALL)
    assert after.name != before.name
    assert {after.name, before.name} <= {p.name for p in (tmp_path / "runs/decoding").iterdir()}
