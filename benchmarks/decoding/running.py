"""Measures the decoding of a configuration's prior, or reuses what was measured, and writes record, table and pictures."""

from typing import Any

from benchmarks.decoding.measuring import DecodingStudy
from benchmarks.decoding.options import DecodingOptions, check_counts
from benchmarks.decoding.pictures import REAL_COLUMNS, curve_figure, decoding_sheet
from benchmarks.decoding.record import RECORD_FORMAT, DecodingRecord, folder_name, read_record
from benchmarks.decoding.text import decoding_text
from benchmarks.results.records import now
from benchmarks.run.bench import Bench
from ddoq.console import say
from ddoq.ddoq import DDOQ
from ddoq.distillation.arguments import hashed
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.latents.quantization import LatentQuantization
from ddoq.measures import choose_setting
from ddoq.measures.choice import RULE
from ddoq.priors import Sampling
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.files import atomic_path
from ddoq.storage.fingerprints import plain
from ddoq.storage.locks import locked
from ddoq.storage.provenance import provenance
from ddoq.storage.run_folder import DecodingFolder, RunFolder

_USUAL_IPC = 10  # centroids a class, where no method says


def measure_decoding(bench: Bench, options: DecodingOptions) -> DecodingRecord:
    """Measure how good the prior of a configuration is to decode with; what a killed run has made is reused.

    Args:
        bench: The parts of the configuration.
        options: What is measured.

    Returns:
        What was measured; ``OUTPUT/decoding`` holds it with a table and two pictures.

    Raises:
        UserError: If there is no prior or no teacher, if options do not fit the dataset, or on several ranks.
    """
    if bench.trainer.world_size > 1:
        raise UserError(
            "ddoq-bench decoding works on one device: leave out trainer.devices and trainer.strategy."
        )
    data = bench.dataset
    method = method_of(bench, options)
    options.grid(method.sampling)  # refuses what cannot run, before minutes of training
    method.check(data)
    check_counts(data, [options.per_class or method.ipc])
    prior, teacher = bench.prior(), bench.teacher()
    teacher.check_matches(data)
    method.attach(data, prior=prior)
    study = DecodingStudy(data, method, teacher, options, bench.trainer, bench.output)
    config = study_config(study)
    run = RunFolder(bench.output)
    folder = run.decoding(folder_name(config))
    with locked(run.decoding_lock(folder_name(config)), f"waiting for {folder.path}"):
        record = read_or_set_aside(folder.record, read_record)
        reused = record is not None
        if record is None:
            for drawn in (folder.table, folder.curve, folder.sheet):  # of an earlier record
                drawn.unlink(missing_ok=True)
            record = _measure(study, config)
            record.write(folder.record)
        _draw(folder, study, record)
    say(f"\n{decoding_text(record)}\n")
    say(f"decoding: {'reused' if reused else 'measured'}, in {folder.path}")
    return record


def method_of(bench: Bench, options: DecodingOptions) -> LatentQuantization:
    """Return the method whose centroids are decoded: the configuration's, or DDOQ where that decodes nothing.

    Args:
        bench: The parts of the configuration.
        options: Their ``ipc`` is put in the place of the method's, where it is given.
    """
    given = bench.distiller
    if isinstance(given, LatentQuantization):
        method = given if options.ipc is None else given.with_arguments(ipc=options.ipc)
    else:
        if given is not None:
            say(
                f"decoding: {given.method} decodes no centroids; those of DDOQ are measured instead"
            )
        usual = _USUAL_IPC if given is None else given.ipc
        seed = 0 if given is None else given.seed
        method = DDOQ(usual if options.ipc is None else options.ipc, seed)
    return at_budget(method, bench.dataset.num_classes)


def study_config(study: DecodingStudy) -> dict[str, Any]:
    """Return all that decides the numbers of a study, as JSON values.

    Args:
        study: With data, prior and teacher.
    """
    method, options = study.method, study.options
    settings = {k: v for k, v in hashed(method.shard_settings()).items() if k != "sampling"}
    context = {**method.context(), **method.formats()}
    config = {
        **context,  # has a format of its own, that of shards
        "record": RECORD_FORMAT,
        "method": method.method,
        "ipc": method.ipc,
        "seed": method.seed,
        "settings": settings,
        "test": study.data.test_fingerprint,
        "teacher": study.teacher.fingerprint,
        "steps": method.sampling.num_inference_steps,
        "strengths": options.strengths,
        "guidances": options.guidances,
        "per_class": study.per_class,
        "names": [study.data.name, study.data.classes.names],
    }
    written: dict[str, Any] = plain(config)
    return written


def _measure(study: DecodingStudy, config: dict[str, Any]) -> DecodingRecord:
    sets = list(study.sets())
    settings = list(study.settings())
    picked, reached = choose_setting(settings, sets[0].recognised)
    return DecodingRecord(
        config=config,
        dataset=study.data.name,
        class_names=study.data.classes.names,
        prior=study.reconstruction,
        teacher={"arch": study.teacher.arch, "accuracy": study.teacher.accuracy},
        sets=sets,
        settings=settings,
        rule=RULE,
        picked=picked,
        reached=reached,
        provenance=provenance(),
        created=now(),
    )


def _draw(folder: DecodingFolder, study: DecodingStudy, record: DecodingRecord) -> None:
    """Write table and pictures that are not there."""
    if not folder.table.exists():
        with atomic_path(folder.table) as temporary:
            temporary.write_text(decoding_text(record) + "\n", encoding="utf-8")
    if not folder.curve.exists():
        curve_figure(record, folder.curve)
    if not folder.sheet.exists():
        picked = record.picked
        steps = study.method.sampling.num_inference_steps
        shards = study.shards(Sampling(picked.strength, picked.guidance_scale, steps))
        decoding_sheet(record, study.real(REAL_COLUMNS), shards, study.look(shards), folder.sheet)
