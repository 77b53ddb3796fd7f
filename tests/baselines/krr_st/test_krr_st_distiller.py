"""KRR-ST learns without labels: what it starts from, what a step does, and what changes no bit."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from killing import KilledError

from baselines.krr_st import KRRST
from baselines.krr_st.distiller import prediction_error
from ddoq.costs.workload import Parts, Sizes
from ddoq.data import TensorSplit
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.ingredient import prepare_all
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.networks import draw_network, penultimate
from ddoq.optimisation.pools import ResetAtAge
from ddoq.self_supervised import BarlowTwins
from ddoq.self_supervised.barlow_twins import features_of

ARCH = "convnet1-w4-bn"
TEACHER = {
    "arch": "convnet1-w4-bn",
    "stem": None,
    "epochs": 1,
    "batch_size": 16,
    "hidden": 8,
    "optimizer": "adamw",
    "lr": 0.003,
}
SETTINGS = {
    "ipc": 2,
    "arch": ARCH,
    "iterations": 5,
    "lr": 0.01,
    "batch_real": 16,
    "pool_size": 2,
    "pool_age": 3,
}


@pytest.fixture
def data(coloured_noise):
    return coloured_noise(per_class=16)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An output whose target model and sets serve several tests."""
    return tmp_path_factory.mktemp("krr-st")


@pytest.fixture
def distil(data, make_trainer, tmp_path, shared):
    def run(root=None, **changes) -> DistilledSet:
        method = KRRST(target_model=BarlowTwins(**TEACHER), **SETTINGS | changes)
        method.attach(data)
        method.checkpoint_seconds = 0
        output = shared if root is None else tmp_path / root
        if root is not None and (shared / "ingredients").is_dir() and not output.exists():
            shutil.copytree(shared / "ingredients", output / "ingredients")
        distilled, _ = method.run(make_trainer(), output)
        return distilled

    return run


def same(one: DistilledSet, other: DistilledSet) -> bool:
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return one.fingerprint == other.fingerprint and all(torch.equal(a, b) for a, b in pairs)


def test_the_set_has_vectors_and_no_classes(distil):
    made = distil()
    assert made.labels is None
    assert (made.targets.kind, tuple(made.targets.values.shape)) == ("vectors", (6, 4 * 4 * 4))
    assert made.images.shape == (6, 3, 8, 8)
    assert made.images.dtype == torch.float32
    assert made.ipc == 2
    assert made.metadata["ingredients"]["target_model"]["width"] == 64
    assert len(made.metadata["statistics"]["losses"]) == 5
    assert made.form.transform is not None
    assert same(made, distil())  # read as it was written
    assert same(made, distil("again"))


def test_it_starts_from_real_images_and_what_the_target_model_says_of_them(distil, data, shared):
    control = distil(iterations=0)
    real = data.train.images
    pixels = control.decode().pixels()
    matches = [
        (real == image).flatten(1).all(dim=1).nonzero().flatten().tolist() for image in pixels
    ]
    chosen = [match[0] for match in matches]  # each of them is a real image
    assert len(set(chosen)) == 6
    teacher = BarlowTwins(**TEACHER)
    where = {"accelerator": "cpu", "devices": 1}
    prepare_all({"target_model": teacher}, data, shared, where)
    expected = features_of(teacher.network(torch.device("cpu")), control.images)
    assert torch.allclose(control.targets.values, expected, atol=1e-5)
    learned = distil()
    assert not torch.equal(learned.images, control.images)
    assert not torch.equal(learned.targets.values, control.targets.values)


def test_the_control_is_itself_without_steps():
    method = KRRST(target_model=BarlowTwins(), ipc=3, seed=4)
    control = method.control()
    assert (control.iterations, control.ipc, control.seed) == (0, 3, 4)
    assert control.target_model is method.target_model


def test_no_class_label_is_read(distil, data):
    whole = distil()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(3))
    data.train = TensorSplit(data.train.images, data.train.labels[order])
    permuted = distil("permuted")
    assert same(permuted, whole)


def test_a_kill_changes_no_bit(distil, monkeypatch):
    whole = distil("whole", iterations=8)
    step = KRRST.step
    for kill_at in (0, 5):

        def killed(self, number, *rest, kill_at=kill_at):
            if number == kill_at:
                raise KilledError
            step(self, number, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(KRRST, "step", killed)
            with pytest.raises(KilledError):
                distil(str(kill_at), iterations=8)
        assert same(distil(str(kill_at), iterations=8), whole)


def test_settings_decide(distil):
    changes = (
        {},
        {"seed": 1},
        {"hflip": False},
        {"crop_pad": 0},
        {"ridge": 1e-2},
        {"lr_net": 0.01},
    )
    made = [distil(**change).images for change in changes]
    for number, images in enumerate(made):
        assert not any(torch.equal(images, other) for other in made[:number]), changes[number]


def test_the_released_codes_pool_differs_once_a_network_has_made_way(distil, monkeypatch):
    drawn = {False: 0, True: 0}
    for faithful in drawn:
        init = ResetAtAge._new

        def count(self, number, age, faithful=faithful, init=init):
            drawn[faithful] += 1
            return init(self, number, age)

        with monkeypatch.context() as patch:
            patch.setattr(ResetAtAge, "_new", count)
            distil(iterations=12, faithful=faithful)
    assert drawn[True] > drawn[False]  # from then on a fresh one after every use


def test_the_first_networks_have_a_random_number_of_steps_behind_them(data):
    method = KRRST(target_model=BarlowTwins(), ipc=2, arch=ARCH, pool_size=50, pool_age=6)
    method.data = data
    ages = [member.age for member in method.pool(3).members]
    assert set(ages) == {1, 2, 3, 4, 5}


def test_the_error_restated():
    network = draw_network(ARCH, 5, 8, seed=0).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    real, images = (torch.randn(n, 3, 8, 8, generator=generator) for n in (7, 4))
    answers, targets = (torch.randn(n, 5, generator=generator) for n in (7, 4))
    images.requires_grad_()
    loss = prediction_error(network, real, answers, images, targets, 1e-3)

    def features(batch: torch.Tensor) -> torch.Tensor:
        return torch.cat([penultimate(network, batch), torch.ones(len(batch), 1)], dim=1).double()

    support, seen = features(images), features(real)
    kernel = support @ support.T
    inverse = torch.linalg.inv(kernel + 1e-3 * kernel.trace() * torch.eye(4))
    expected = F.mse_loss(seen @ support.T @ inverse @ targets.double(), answers.double())
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert images.grad.abs().sum() > 0


def test_steps_bring_the_prediction_nearer(distil):
    losses = distil(iterations=40, lr=0.05)
    curve = losses.metadata["statistics"]["losses"]
    assert sum(curve[-10:]) < 0.9 * sum(curve[:10])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ipc": 17}, "ipc 17 asks for 51 images"),
        ({"batch_real": 0}, "batch_real"),
        ({"iterations": -1}, "iterations"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr_net": 0.0}, "lr_net"),
        ({"ridge": -1.0}, "ridge"),
        ({"momentum_net": 1.0}, "momentum_net"),
        ({"pool_age": 1}, "pool_age"),
        ({"crop_pad": 8}, "crop_pad"),
        ({"arch": "convnet9"}, "leaves nothing"),
    ],
)
def test_bad_settings_are_refused(data, changes, words):
    with pytest.raises(UserError, match=words):
        KRRST(target_model=BarlowTwins(**TEACHER), **SETTINGS | changes).check(data)


def test_bad_settings_of_the_target_model_are_refused(data):
    with pytest.raises(UserError, match=r"target_model\.lr"):
        KRRST(target_model=BarlowTwins(lr=0.0), **SETTINGS).check(data)


def test_one_image_is_too_few(coloured_noise):
    data = coloured_noise(classes=1, per_class=16)
    method = KRRST(target_model=BarlowTwins(**TEACHER), **SETTINGS | {"ipc": 1})
    with pytest.raises(UserError, match="One image"):
        method.check(data)


def test_a_system_without_a_solution_says_so(distil):
    with pytest.raises(NotFiniteError, match="singular"):
        distil(ipc=16, ridge=0.0, arch="convnet2-w4-bn")  # 48 images, 17 features


def test_workload_counts_all_steps():
    sizes = Sizes(3, 48, 12, 8, 16)
    few, many = (
        KRRST(target_model=BarlowTwins(**TEACHER), **SETTINGS | {"iterations": n}).workload(
            sizes, Parts()
        )
        for n in (10, 20)
    )
    assert [stage.name for stage in few] == [
        "ask the target model",
        "regress on features",
        "train the pool",
    ]
    assert many[1].passes == 2 * few[1].passes == 20 * (16 + 6)
    assert many[2].passes - few[2].passes == 10 * 6
