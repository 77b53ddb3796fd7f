"""Plans against what really happens, at a small scale."""

from types import SimpleNamespace

import pytest
import torch

from baselines.kmeans_selection import KMeansSelection
from baselines.krr_st import KRRST
from baselines.random_selection import RandomSelection
from baselines.sre2l import SRe2L
from benchmarks.planning.stages import Job, plan, total_flops
from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from benchmarks.transfer.protocol import TransferProtocol
from ddoq.costs.flops import count_flops
from ddoq.costs.workload import Parts, Sizes, Stage, network_flops
from ddoq.data import Digits
from ddoq.ddoq import DDOQ
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.shard import WorkItem
from ddoq.latents.cache import encode_class
from ddoq.priors import DiTConfig, PretrainedPrior, TrainedPrior, VAEConfig
from ddoq.priors.base import Sampling
from ddoq.seeding import generator_for
from ddoq.self_supervised import BarlowTwins
from ddoq.teachers import PretrainedTeacher, TrainedTeacher

WHERE = {"accelerator": "cpu", "enable_progress_bar": False, "precision": "32-true"}
IPC = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make a tiny prior and a tiny teacher of digits, really trained."""
    root = tmp_path_factory.mktemp("runs")
    data = Digits(image_size=16, limit_per_class=12, test_limit_per_class=5)
    data.setup()
    prior_source = TrainedPrior(
        VAEConfig(channels=(8, 8), steps=2, batch_size=8),
        DiTConfig(layers=2, heads=2, head_dim=8, steps=3, batch_size=8),
    )
    teacher_source = TrainedTeacher("convnet2-w8-bn", epochs=1, batch_size=32)
    return SimpleNamespace(
        data=data,
        root=root,
        sizes=Sizes.of(data),
        prior_source=prior_source,
        teacher_source=teacher_source,
        prior=prior_source.obtain(data, root, WHERE),
        teacher=teacher_source.obtain(data, root, WHERE),
    )


def job(world, distiller, **changes):
    values = {
        "sizes": world.sizes,
        "distiller": distiller,
        "prior_source": world.prior_source,
        "teacher_source": world.teacher_source,
        "students": [Student("convnet2-w8")],
        "seeds": 1,
        "recipe": load_recipe("unified", {"epochs": 3, "batch_size": 7}),
    }
    return Job(**{**values, **changes})


def by_name(stages):
    return {stage.name: stage for stage in stages}


def small_ddoq(**options):
    return DDOQ(IPC, sampling=Sampling(0.7, 4.0, 10), batch_size=5, **options)


def test_encoding_and_generation_are_predicted(world, trainer):
    distiller = small_ddoq()
    stages = by_name(plan(job(world, distiller)))
    distiller.attach(world.data, prior=world.prior)
    really = count_flops(
        lambda: [
            encode_class(world.prior, world.data, k, batch_size=5, device=torch.device("cpu"))
            for k in range(10)
        ]
    )
    assert stages["encode"].flops == really
    centroids = torch.randn(IPC, *world.prior.latent_shape, generator=generator_for(0))
    really = count_flops(lambda: [distiller.decode(centroids, k) for k in range(10)])
    assert stages["generate"].flops + stages["decode"].flops == really
    assert stages["generate"].passes == 10 * IPC * 7 * 2


def test_files_are_predicted_and_the_set_records_its_operations(world, trainer, tmp_path):
    distiller = small_ddoq()
    stages = by_name(plan(job(world, distiller)))
    distiller.attach(world.data, prior=world.prior)
    distilled, _ = distiller.run(trainer, tmp_path)
    latents = sum(path.stat().st_size for path in tmp_path.rglob("latents/*/class-*.safetensors"))
    # Headers, positions and labels weigh something in files of three kilobytes.
    assert 0 <= latents - stages["encode"].files["latents"] < 10 * 1500
    assert stages["decode"].files["images"] == distilled.image_bytes
    names = ("encode", "generate", "decode")
    assert distilled.metadata["cost"]["flops"] == sum(stages[name].flops for name in names)


def test_recovery_is_predicted(world, trainer, tmp_path):
    distiller = SRe2L(IPC, iterations=3, jitter=2, class_block=4)
    stages = by_name(plan(job(world, distiller)))
    distiller.attach(world.data, teacher=world.teacher)
    items = distiller.work_items(world.data)
    really = count_flops(lambda: [distiller.distill(item) for item in items])
    assert stages["recover"].flops + stages["judge"].flops == really
    distilled, _ = distiller.run(trainer, tmp_path)
    assert distilled.metadata["cost"]["flops"] == really
    assert stages["recover"].passes == 10 * IPC * 3
    assert "prior: train VAE" not in stages


def test_training_of_students_is_predicted_and_recorded(world):
    planned = by_name(plan(job(world, small_ddoq())))
    labels = torch.arange(10).repeat_interleave(IPC)
    images = torch.randint(0, 256, (len(labels), 3, 16, 16), dtype=torch.uint8)
    made = DistilledSet(images, labels, torch.ones(len(labels)), world.data.classes.names)
    recipe = load_recipe("unified", {"epochs": 3, "batch_size": 7})
    outcomes = []

    def train():
        outcomes.append(
            evaluate_student(
                TrainingSet.of(made, recipe),
                world.data,
                world.teacher,
                Student("convnet2-w8"),
                seed=0,
                run=Run({**WHERE, "devices": 1}),
            )
        )

    really = count_flops(train)
    (outcome,) = outcomes
    assert outcome.flops == planned["train convnet2-w8"].flops
    assert outcome.teacher_flops == planned["label for convnet2-w8"].flops
    assert outcome.test_flops == planned["test convnet2-w8"].flops
    # The counting of the outcome is itself among what is counted here: three passes of two images.
    whole = outcome.flops + outcome.teacher_flops + outcome.test_flops
    assert whole == pytest.approx(really, rel=0.1)


def test_stored_labels_and_hard_ones(world):
    stored = {"epochs": 3, "labels": "stored"}
    whole = by_name(plan(job(world, small_ddoq(), recipe=load_recipe("unified", stored))))
    assert whole["store labels"].files == {"labels": 3 * 10 * IPC * 10 * 2}
    some = load_recipe("unified", {**stored, "label_top_k": 2})
    assert (
        by_name(plan(job(world, small_ddoq(), recipe=some)))["store labels"].files["labels"] < 600
    )
    hard = by_name(plan(job(world, small_ddoq(), recipe=load_recipe("hard"))))
    assert not any("label" in name or "teacher" in name for name in hard)


def test_training_of_prior_and_teacher_is_predicted(world, tmp_path):
    stages = by_name(world.prior_source.workload(world.sizes)[1])
    assert stages["prior: train VAE"].passes == 2 * 8
    assert stages["prior: train DiT"].passes == 3 * 8
    network, (training, testing) = world.teacher_source.workload(world.sizes)
    really = count_flops(lambda: world.teacher_source.obtain(world.data, tmp_path, WHERE))
    assert training.flops + testing.flops == really
    assert next(network.parameters()).device.type == "meta"


def test_stored_parts_cost_nothing_to_obtain(world, tmp_path):
    world.prior.save(tmp_path / "prior")
    networks, stages = PretrainedPrior(str(tmp_path / "prior")).workload(world.sizes)
    assert not stages
    assert networks.latent_shape == world.prior.latent_shape
    part = PretrainedPrior(str(tmp_path / "prior"), classes="imagenet")
    assert part.workload(world.sizes)[0].latent_shape == networks.latent_shape
    world.teacher.save(tmp_path / "teacher")
    network, stages = PretrainedTeacher(str(tmp_path / "teacher")).workload(world.sizes)
    assert network is not None
    assert not stages
    named = PretrainedTeacher(arch="torchvision/resnet18", weights="IMAGENET1K_V1")
    network, stages = named.workload(Sizes(1000, 1000, 70, 64, 1))
    assert [(stage.name, stage.passes) for stage in stages] == [
        ("teacher: test", 70 + 64)
    ]  # 64 more than once
    # torchvision states 11,689,512 parameters.
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_689_512


def test_what_is_unknown_is_not_nothing(world):
    class Silent(Distiller):
        method = "silent"

        def work_items(self, data):
            return [WorkItem(0, "all", (0,))]

        def distill(self, item):
            raise NotImplementedError

    stages = by_name(plan(job(world, Silent(1))))
    assert stages["distil by silent"].flops is None
    lost = PretrainedPrior("somebody/something")
    stages = by_name(plan(job(world, small_ddoq(), prior_source=lost)))
    assert stages["prior: open"].flops is None
    assert "somebody/something" in stages["prior: open"].note
    assert stages["distil by ddoq"].flops is None
    assert network_flops(small_ddoq().workload(world.sizes, Parts())) is None


class Experts(Ingredient):
    def __init__(self, runs: int = 3) -> None:
        self.runs = runs

    fingerprint = "none"

    def prepare(self, data, folder, where):
        raise NotImplementedError


class CountedExperts(Experts):
    def workload(self, sizes):
        return [Stage("record experts", "convnet", self.runs * sizes.train_images, 5)]


class Matching(RandomSelection):
    def __init__(self, experts: Experts, ipc: int, seed: int = 0) -> None:
        super().__init__(ipc, seed)
        self.experts = experts


def test_ingredients_are_planned_for(world):
    stages = by_name(plan(job(world, Matching(CountedExperts(), IPC))))
    assert stages["record experts"].passes == 3 * world.sizes.train_images
    stages = by_name(plan(job(world, Matching(Experts(), IPC))))
    assert stages["prepare Experts"].flops is None
    assert total_flops(list(stages.values())) is None


def test_selections(world):
    (stage,) = RandomSelection(IPC).workload(world.sizes, Parts())
    assert (stage.flops, stage.files["images"]) == (0, 10 * IPC * 3 * 16 * 16)
    parts = Parts(world.prior.networks())
    encode, select = KMeansSelection(IPC).workload(world.sizes, parts)
    assert encode.passes == world.sizes.train_images
    assert select.at_most
    (select,) = KMeansSelection(IPC, features="pixel").workload(world.sizes, Parts())
    assert select.passes == 0


def test_networks_can_be_run_for_a_measurement(world):
    stages = plan(job(world, small_ddoq(), device=torch.device("cpu")))
    probed = [stage for stage in stages if stage.probe is not None]
    assert {"encode", "generate", "decode", "train convnet2-w8"} <= {stage.name for stage in probed}
    for stage in probed:
        if not stage.name.startswith("teacher"):
            stage.probe(2)


def test_sets_without_classes_are_planned_by_their_transfer(world):
    target = BarlowTwins(arch="convnet2-w8-bn", stem=None)
    method = KRRST(ipc=2, target_model=target, arch="convnet2-w8-bn")
    protocol = TransferProtocol(pretrain_epochs=10, iterations=7, batch_size=16)
    stages = by_name(plan(job(world, method, transfer=protocol, seeds=2)))
    assert not any("label" in name or name.startswith("teacher") for name in stages)
    images = world.sizes.num_classes * 2
    assert stages["pre-train convnet2-w8"].passes == 2 * 2 * 10 * images
    assert stages["fine-tune convnet2-w8"].passes == 2 * 3 * 7 * 16
