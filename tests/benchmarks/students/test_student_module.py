from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import top_k_accuracy_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.students.augmentation import draw_images
from benchmarks.students.batches import EpochPositions
from benchmarks.students.module import StudentModule
from benchmarks.students.recipes import Recipe, load_recipe
from benchmarks.students.training_set import TrainingSet
from ddoq.augmentation.epochs import augment
from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm
from ddoq.decoding.transform import Transform, fit_zca
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.labels.targets import Targets

PLAIN = {
    "optimizer": "sgd",
    "momentum": 0.0,
    "lr": 0.5,
    "weight_decay": 0.0,
    "crop_scale": [1.0, 1.0],
    "flip": False,
    "cutmix_alpha": 0.0,
    "epochs": 1,
}


def make_set(weights: torch.Tensor | None = None) -> DistilledSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    weights = torch.ones(12) if weights is None else weights
    return DistilledSet(images, torch.arange(12) % 3, weights, ["a", "b", "c"])


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def fit(
    distilled: DistilledSet,
    recipe: Recipe,
    network: nn.Module | None = None,
    teacher: nn.Module | None = None,
    precision: str = "32-true",
    **options: Any,
) -> StudentModule:
    module = StudentModule(
        network or linear(),
        TrainingSet.of(distilled, recipe),
        num_classes=3,
        lr=recipe.lr,
        teacher=teacher,
        **options,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        max_epochs=recipe.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    return module


def weights_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def sgd_step(network: nn.Module, loss: torch.Tensor, lr: float = 0.5) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return weights_of(network) - lr * torch.cat([g.flatten() for g in gradients])


def test_one_step_on_hard_labels_equals_plain_torch():
    distilled, network = make_set(), linear()
    loss = F.cross_entropy(network(distilled.images.float() / 255), distilled.labels)
    trained = fit(distilled, load_recipe("hard", PLAIN))
    torch.testing.assert_close(weights_of(trained.network), sgd_step(network, loss))


@pytest.mark.parametrize("loss_name", ["kl", "ce"])
def test_one_step_on_soft_labels_equals_plain_torch(loss_name):
    distilled, network, teacher = make_set(), linear(), linear(1)
    images = distilled.images.float() / 255
    loss = F.kl_div(
        F.log_softmax(network(images) / 2, 1),
        F.softmax(teacher(images) / 2, 1),
        reduction="batchmean",
    )
    recipe = load_recipe("unified", {**PLAIN, "temperature": 2.0, "loss": loss_name})
    trained = fit(distilled, recipe, teacher=teacher)
    torch.testing.assert_close(weights_of(trained.network), sgd_step(network, loss))


def test_the_teacher_labels_the_mixed_images():
    seen = {}

    class Spy(nn.Module):
        def __init__(self, key: str) -> None:
            super().__init__()
            self.key, self.network = key, linear()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen[self.key] = images.detach().clone()
            return self.network(images)

    recipe = load_recipe("unified", {"epochs": 1})
    fit(make_set(), recipe, network=Spy("student"), teacher=Spy("teacher"))
    assert torch.equal(seen["student"], seen["teacher"])
    originals = {tuple(image.flatten().tolist()) for image in make_set().images.float() / 255}
    assert not {tuple(image.flatten().tolist()) for image in seen["student"]} <= originals


def normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))


@pytest.mark.parametrize(
    ("network", "cutmix_alpha", "acts"),
    [(linear, 0.0, False), (linear, 1.0, True), (normalised, 0.0, True)],
)
def test_an_image_of_weight_zero_acts_through_cutmix_and_batch_norm_alone(
    network, cutmix_alpha, acts
):
    weights = torch.ones(12)
    weights[0], weights[3] = 0.0, 2.0
    recipe = load_recipe("hard", PLAIN | {"cutmix_alpha": cutmix_alpha})
    distilled = make_set(weights)
    changed = replace(distilled, images=distilled.images.clone())
    changed.images[0] = 255 - changed.images[0]
    first, second = (
        weights_of(fit(each, recipe, network()).network) for each in (distilled, changed)
    )
    assert torch.equal(first, second) != acts


@pytest.mark.parametrize("reduction", ["batch", "weights"])
def test_unit_weights_equal_no_weights(reduction):
    recipe = load_recipe("hard", {**PLAIN, "reduction": reduction})
    distilled, network = make_set(), linear()
    loss = F.cross_entropy(network(distilled.images.float() / 255), distilled.labels)
    torch.testing.assert_close(weights_of(fit(distilled, recipe).network), sgd_step(network, loss))


def test_a_doubled_weight_equals_a_duplicated_image():
    weights = torch.ones(12)
    weights[0], weights[3] = 2.0, 0.0  # both of class 0, whose mean stays 1
    weighted = fit(make_set(weights), load_recipe("hard", PLAIN))
    duplicated = make_set()
    duplicated.images[3] = duplicated.images[0]
    repeated = fit(duplicated, load_recipe("hard", PLAIN))
    torch.testing.assert_close(weights_of(weighted.network), weights_of(repeated.network))


@pytest.mark.parametrize("rule", ["mix", "base"])
def test_weights_under_cutmix(rule):
    weights = torch.where(torch.arange(12) < 6, 0.5, 1.5)
    module = fit(
        make_set(weights),
        load_recipe("unified", {"epochs": 1, "weight_under_cutmix": rule}),
        teacher=linear(1),
    )
    positions = torch.tensor([7, 0, 3])
    draws = module._draws
    expected = weights[positions]
    if rule == "mix":
        partners = weights[draws.partners[positions]]
        expected = draws.lam[positions] * expected + (1 - draws.lam[positions]) * partners
    torch.testing.assert_close(module.sample_weights(positions), expected)


def test_hard_labels_under_cutmix_are_mixed():
    module = fit(make_set(), load_recipe("hard", {"cutmix_alpha": 1.0, "epochs": 1}))
    draws, positions = module._draws, torch.arange(12)
    labels = make_set().labels
    targets = draws.lam[:, None] * F.one_hot(labels, 3)
    targets = targets + (1 - draws.lam[:, None]) * F.one_hot(labels[draws.partners], 3)
    logits = module(augment(make_set().images, positions, draws.epoch))
    reference = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(module.sample_losses(positions), reference)


def test_set_and_teacher_are_no_part_of_the_student():
    teacher = nn.Sequential(linear(1), nn.BatchNorm1d(3))
    module = fit(make_set(), load_recipe("unified", {"epochs": 1}), teacher=teacher)
    assert all(key.startswith("network.") for key in module.state_dict())
    assert len(list(module.parameters())) == 2
    assert not teacher.training
    assert teacher[1].num_batches_tracked == 0


def test_only_collages_are_shuffled_and_only_by_recipes_that_say_so():
    plain, collage = make_set(), make_set()
    collage.metadata["collage"] = 2
    for name, distilled, shuffled in (
        ("rded", collage, True),
        ("rded", plain, False),
        ("unified", collage, False),
    ):
        module = fit(distilled, load_recipe(name, {"epochs": 1}), teacher=linear(1))
        assert (module._draws.epoch.patches is not None) is shuffled


def test_hard_idc_recolours_and_takes_its_epochs_from_the_set():
    training = TrainingSet.of(make_set(), load_recipe("hard_idc"))
    module = StudentModule(linear(), training, num_classes=3, lr=0.01)
    assert (module.plan.epochs, module.plan.batch_size) == (2000, 12)  # 4 images per class
    assert module._lr_of(1334) == pytest.approx(0.2 * 0.01)
    trained = fit(make_set(), load_recipe("hard_idc", {"epochs": 1}))
    assert trained._draws.epoch.jitter_factors.shape == (12, 3)
    assert trained._draws.epoch.lighting.shape == (12, 3)


def test_only_matrices_decay():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    for rule, decayed in (
        ("matrices", {True: 0.01, False: 0.0}),
        ("all", {True: 0.01, False: 0.01}),
    ):
        recipe = load_recipe("sre2l", {"weight_decay_on": rule})
        training = TrainingSet.of(make_set(), recipe)
        module = StudentModule(network, training, num_classes=3, lr=0.1)
        optimizer = module.configure_optimizers()
        found = {
            id(p): group["weight_decay"]
            for group in optimizer.param_groups
            for p in group["params"]
        }
        assert found == {id(p): decayed[p.ndim >= 2] for p in network.parameters()}
        assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_learning_rate_follows_the_schedule_once_an_epoch():
    seen = []

    class Recorder(StudentModule):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            seen.append(self.optimizers().param_groups[0]["lr"])
            return super().training_step(batch, batch_idx)

    recipe = load_recipe("hard", {"epochs": 4, "batch_size": 6})
    module = Recorder(linear(), TrainingSet.of(make_set(), recipe), num_classes=3, lr=0.1)
    L.Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    assert seen == pytest.approx([0.1 * recipe.lr_factor(e, 4) for e in range(4) for _ in range(2)])


def test_accuracy_equals_scikit_learns():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (101, 3, 4, 4), generator=generator, dtype=torch.uint8)
    # Unequal classes: micro and macro averages differ.
    labels = torch.randint(0, 20, (101,), generator=generator).clamp(max=7)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8))
    distilled = DistilledSet(images[:8], torch.arange(8), torch.ones(8), list("abcdefgh"))
    module = StudentModule(
        network,
        TrainingSet.of(distilled, load_recipe("hard")),
        num_classes=8,
        lr=0.1,
        make_test_loader=lambda: DataLoader(TensorDataset(images, labels), batch_size=10),
    )
    L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    ).validate(module, verbose=False)
    with torch.no_grad():
        scores = network(images.float() / 255).numpy()
    entry = module.curve[-1]
    for key, k in (("top1", 1), ("top5", 5)):
        reference = top_k_accuracy_score(labels.numpy(), scores, k=k, labels=range(8))
        assert entry[key] == pytest.approx(reference, abs=1e-7)


def targets_of(kind: str) -> Targets:
    values = torch.rand(12, 3, generator=torch.Generator().manual_seed(5))
    return Targets(values / values.sum(1, keepdim=True), kind)


@pytest.mark.parametrize(
    ("kind", "loss_name"),
    [("probabilities", "kl"), ("logits", "kl"), ("vectors", "mse"), ("probabilities", "mse")],
)
def test_one_step_on_targets_of_the_set_equals_plain_torch(kind, loss_name):
    weights = torch.where(torch.arange(12) < 6, 0.5, 1.5)
    distilled, network = replace(make_set(weights), targets=targets_of(kind)), linear()
    logits, values = network(distilled.images.float() / 255), targets_of(kind).values
    if loss_name == "mse":
        losses = F.mse_loss(logits, values, reduction="none").mean(1)
    else:
        truth = values.softmax(1) if kind == "logits" else values
        losses = F.kl_div(F.log_softmax(logits, 1), truth, reduction="none").sum(1)
    recipe = load_recipe(
        "unified", {**PLAIN, "labels": "set", "loss": loss_name, "temperature": 1.0}
    )
    trained = fit(distilled, recipe)
    expected = sgd_step(network, (losses * weights).mean())
    torch.testing.assert_close(weights_of(trained.network), expected)


def test_squared_errors_of_a_teachers_logits():
    distilled, network, teacher = make_set(), linear(), linear(1)
    images = distilled.images.float() / 255
    loss = F.mse_loss(network(images), teacher(images))
    trained = fit(distilled, load_recipe("unified", {**PLAIN, "loss": "mse"}), teacher=teacher)
    torch.testing.assert_close(weights_of(trained.network), sgd_step(network, loss))


def test_targets_of_the_set_under_cutmix_are_mixed():
    distilled = replace(make_set(), targets=targets_of("vectors"))
    recipe = load_recipe("unified", {"labels": "set", "loss": "mse", "epochs": 1})
    module = fit(distilled, recipe)
    draws, positions, values = module._draws, torch.arange(12), targets_of("vectors").values
    logits = module(augment(distilled.images, positions, draws.epoch))
    own = F.mse_loss(logits, values, reduction="none").mean(1)
    others = F.mse_loss(logits, values[draws.partners], reduction="none").mean(1)
    reference = draws.lam * own + (1 - draws.lam) * others
    torch.testing.assert_close(module.sample_losses(positions), reference)


def test_a_grid_trains_on_its_tiles():
    whole, network = replace(make_set(), form=SetForm(Grid(2))), linear()
    tiles, index = Grid(2).decode(whole.images, {})
    loss = F.cross_entropy(network(tiles), whole.labels[index])
    trained = fit(whole, load_recipe("hard", PLAIN))
    assert trained.images == 48
    torch.testing.assert_close(weights_of(trained.network), sgd_step(network, loss))


def test_networks_of_a_set_with_a_transform_take_its_space():
    transform = fit_zca(make_set().images)
    inside = transform.apply(make_set().images / 255)
    whole, network = replace(make_set(), images=inside, form=SetForm(transform=transform)), linear()
    loss = F.cross_entropy(network(inside), whole.labels)
    trained = fit(whole, load_recipe("hard", PLAIN))
    torch.testing.assert_close(weights_of(trained.network), sgd_step(network, loss))
    # Test images are mapped there, too.
    trained.validation_step((make_set().images, make_set().labels), 0)
    right = trained.network(inside).argmax(1) == make_set().labels
    assert float(trained.top1.compute()) == pytest.approx(float(right.float().mean()))


def test_the_teacher_of_a_set_with_a_transform_sees_pixels():
    seen = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return linear(1)(images)

    transform = Transform.normalize((0.5,) * 3, (0.25,) * 3)
    inside = transform.apply(make_set().images / 255)
    whole = replace(make_set(), images=inside, form=SetForm(transform=transform))
    fit(whole, load_recipe("unified", PLAIN), teacher=Spy())
    order = next(iter(EpochPositions(12, 50, seed=0)))
    torch.testing.assert_close(seen[0], (make_set().images / 255)[order])


class Recording(nn.Module):
    """Keeps what a network is given, and in which dtype it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[torch.Tensor] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        self.inputs.append(images.detach())
        self.dtypes |= {logits.dtype, torch.zeros(1).dtype}
        return logits


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.bfloat16),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
    ],
)
def test_a_precision_acts_on_the_network_alone(precision, dtype):
    changes = {"cutmix_alpha": 1.0, "crop_scale": [0.3, 1.0], "batch_size": 6}
    recipe = replace(load_recipe("unified", {**PLAIN, **changes}), color_jitter=0.4)
    plain, teacher, student = Recording(linear(1)), Recording(linear(1)), Recording(linear())
    fit(make_set(), recipe, Recording(linear()), plain)
    module = fit(make_set(), recipe, student, teacher, precision=precision)
    assert all(map(torch.equal, teacher.inputs, plain.inputs))  # as augmented in float32
    assert teacher.dtypes == {torch.float32}
    assert dtype in student.dtypes
    assert module.sample_losses(torch.arange(6)).dtype == torch.float32
    soft = replace(make_set(), targets=targets_of("probabilities"))
    for labels, distilled in (("hard", make_set()), ("set", soft)):
        fit(distilled, replace(recipe, labels=labels, loss="ce"), precision=precision)


def normalised_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def test_statistics_of_parts_equal_gradients_accumulated_over_micro_batches():
    distilled, network = make_set(), normalised_net()
    (order,) = EpochPositions(12, 50, seed=0)
    images, labels = distilled.images[order].float() / 255, distilled.labels[order]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for part in torch.arange(12).split(4):
        (F.cross_entropy(network(images[part]), labels[part]) / 3).backward()
    optimizer.step()
    trained = fit(distilled, load_recipe("hard", PLAIN | {"bn_batch": 4}), normalised_net())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained.network.state_dict()[name], value, msg=name)
    whole = fit(distilled, load_recipe("hard", PLAIN), normalised_net())
    assert not torch.allclose(weights_of(trained.network), weights_of(whole.network))


def test_decay_by_name_leaves_out_bias_tables_and_class_tokens():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
            self.relative_position_bias_table = nn.Parameter(torch.ones(9, 2))
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 3)

    module = StudentModule(
        Net(),
        TrainingSet.of(make_set(), load_recipe("sre2l")),
        num_classes=3,
        lr=0.1,
    )
    groups = module.configure_optimizers().param_groups
    names = {id(parameter): name for name, parameter in module.network.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert {name for name, rate in decay.items() if rate} == {"head.weight"}
    assert set(decay) == set(names.values())
    by_shape = load_recipe("sre2l", {"weight_decay_on": "matrices"})
    module = StudentModule(Net(), TrainingSet.of(make_set(), by_shape), num_classes=3, lr=0.1)
    decayed = module.configure_optimizers().param_groups[0]["params"]
    assert len(decayed) == 3


def test_images_drawn_by_weight_train_as_they_are():
    weights = torch.zeros(12)
    weights[[0, 1, 5]] = 4.0  # one of each class
    distilled, network = make_set(weights), linear()
    recipe = load_recipe("hard", PLAIN | {"weights": "sampling"})
    drawn = draw_images(weights, seed=0, epoch=0)
    assert set(drawn.tolist()) <= {0, 1, 5}
    logits = network(distilled.images[drawn].float() / 255)
    trained = fit(distilled, recipe)
    reference = sgd_step(network, F.cross_entropy(logits, distilled.labels[drawn]))
    torch.testing.assert_close(weights_of(trained.network), reference)


def test_images_drawn_by_weight_are_mixed_with_labels_of_their_own():
    recipe = load_recipe("hard", {"cutmix_alpha": 1.0, "epochs": 1, "weights": "sampling"})
    module = fit(make_set(), recipe)
    draws, rows = module._draws, torch.arange(12)
    labels = make_set().labels[draws.images_of(rows)]
    targets = draws.lam[:, None] * F.one_hot(labels, 3)
    targets = targets + (1 - draws.lam[:, None]) * F.one_hot(labels[draws.partners], 3)
    logits = module(augment(make_set().images, rows, draws.epoch))
    reference = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(module.sample_losses(rows), reference)
    assert torch.equal(module.sample_weights(rows), torch.ones(12))
