"""What students see of a set: plain pixels, grids, floats, the space of a transform; and what fits no recipe."""

from dataclasses import replace

import pytest
import torch

from benchmarks.students.augmentation import Draws
from benchmarks.students.recipes import load_recipe
from benchmarks.students.training_set import TrainingSet
from ddoq.augmentation.epochs import augment, draw_epoch
from ddoq.augmentation.siamese import augment_siamese, draw_siamese_epoch, parse_strategy
from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform, fit_zca
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.labels.targets import Targets

N = 6
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
NORMALISED = Transform.normalize(MEAN, STD)
BARE = {"crop_scale": [1, 1], "flip": False, "cutmix_alpha": 0.0}
ALL = torch.arange(N)


def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (N, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def make(images: torch.Tensor | None = None, **more) -> DistilledSet:
    return DistilledSet(
        pixels() if images is None else images,
        torch.arange(N) % 2,
        torch.ones(N),
        ["a", "b"],
        **more,
    )


def training(distilled: DistilledSet, name: str = "hard", **overrides) -> TrainingSet:
    return TrainingSet.of(distilled, load_recipe(name, overrides), MEAN, STD)


def test_plain_images_are_augmented_as_ever():
    trained = training(make())
    draws = trained.draw(seed=3, epoch=1)
    drawn = draw_epoch(N, (8, 8), seed=3, epoch=1, crop_scale=(0.08, 1.0), flip=True)
    assert torch.equal(trained.images(ALL, draws), augment(pixels(), ALL, drawn))
    assert draws.siamese is None
    assert torch.equal(trained.real_images(pixels()), pixels() / 255)


def test_the_plan_counts_what_is_stored_and_the_batch_what_is_decoded():
    tables = {"epochs": {1: {1: 9, 3: 4, 12: 1}}, "batch_size": 20}
    plain = training(make(), **tables)
    grid = training(make(form=SetForm(Grid(2))), **tables)
    assert (plain.plan.epochs, plain.plan.batch_size, len(plain)) == (4, 6, 6)
    assert (grid.plan.epochs, grid.plan.batch_size, len(grid)) == (4, 20, 24)


def test_float_pixels_are_not_scaled_again():
    trained = training(make(pixels() / 255))
    draws = trained.draw(seed=0, epoch=0)
    torch.testing.assert_close(
        trained.images(ALL, draws), training(make()).images(ALL, draws), rtol=0, atol=1e-6
    )


def test_images_of_a_space_stay_in_it_and_real_images_go_there():
    inside = NORMALISED.apply(pixels() / 255)
    trained = training(make(inside, form=SetForm(transform=NORMALISED)), **BARE)
    seen = trained.images(ALL, trained.draw(0, 0))
    torch.testing.assert_close(seen, inside)
    torch.testing.assert_close(trained.real_images(pixels()), inside)
    torch.testing.assert_close(trained.for_teacher(seen), pixels() / 255)


def test_8_bit_images_are_mapped_after_they_were_augmented():
    transform = fit_zca(pixels())
    trained = training(make(form=SetForm(transform=transform)))
    draws = trained.draw(seed=0, epoch=0)
    expected = transform.apply(training(make()).images(ALL, draws))
    torch.testing.assert_close(trained.images(ALL, draws), expected)
    torch.testing.assert_close(
        trained.for_teacher(expected), transform.invert(expected), rtol=1e-4, atol=1e-4
    )


STRATEGY = "color_crop_cutout_flip_scale_rotate"


@pytest.mark.parametrize("stored", ["uint8", "float", "normalised", "uint8 mapped"])
def test_siamese_augmentation_acts_on_what_networks_see(stored):
    floats, inside = pixels() / 255, NORMALISED.apply(pixels() / 255)
    distilled = {
        "uint8": lambda: make(),
        "float": lambda: make(floats),
        "normalised": lambda: make(inside, form=SetForm(transform=NORMALISED)),
        "uint8 mapped": lambda: make(form=SetForm(transform=NORMALISED)),
    }[stored]()
    trained = training(distilled, "dsa")
    draws = trained.draw(seed=5, epoch=2)
    drawn = draw_siamese_epoch(N, (8, 8), parse_strategy(STRATEGY), seed=5, epoch=2)
    expected = augment_siamese(inside, drawn)
    order = torch.tensor([4, 0, 3])
    seen = trained.images(order, draws)
    if distilled.form.transform is None:  # the network normalises
        seen = NORMALISED.apply(seen)
    torch.testing.assert_close(seen, expected[order], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen, inside[order])


def test_draws_without_mixing_have_no_partners():
    draws = training(make(), "dsa").draw(0, 0)
    assert isinstance(draws, Draws)
    assert draws.partners is None
    assert draws.lam.tolist() == [1.0] * N
    assert draws.to("cpu").siamese is not None


def test_every_epoch_and_seed_draws_anew():
    trained = training(make(), "dsa")
    seen = [trained.images(ALL, trained.draw(s, e)) for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_learning_rates():
    learned = make(form=SetForm(recipe=SetRecipe("dsa", lr=0.07)))
    assert training(learned, "dsa", lr="set").learning_rate("convnet3") == 0.07
    assert training(learned, "dsa").learning_rate("convnet3") == 0.01
    by_arch = {"lr": "set", "lr_by_arch": {"vit_": 0.5}}
    assert training(learned, "dsa", **by_arch).learning_rate("vit_tiny") == 0.5
    for without in (make(), make(form=SetForm(recipe=SetRecipe("dsa")))):
        with pytest.raises(
            UserError, match=r"'dsa\[lr=set\]' .* this set has none: .*overrides.lr"
        ):
            training(without, "dsa", lr="set").learning_rate("convnet3")


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("probabilities", "kl"), ("probabilities", "mse"), ("logits", "ce"), ("vectors", "mse")],
)
def test_targets_as_the_loss_takes_them(kind, loss):
    targets = Targets(torch.tensor([[0.25, 0.75]]).repeat(N, 1), kind)
    trained = training(make(targets=targets), "unified", labels="set", loss=loss)
    trained.check()
    values = trained.target_values()
    if kind == "probabilities" and loss == "kl":
        values = values.softmax(dim=1)
    torch.testing.assert_close(values, targets.values)
    assert training(make(targets=targets)).target_values().numel() == 0


def test_images_join_stage_by_stage_where_the_recipe_says_so():
    learned = SetForm(recipe=SetRecipe("dsa", lr=0.07, stage_lrs=(0.02, 0.05, 0.07)))
    staged = make(stages=torch.tensor([2, 0, 1, 0, 1, 0]), form=learned)
    grown = training(staged, "dsa", staged=True, epochs=4, lr="set")
    assert (grown.plan.epochs, grown.plan.stages, grown.plan.stage_epochs) == (12, 3, 4)
    members = [grown.of_stage(stage).tolist() for stage in range(3)]
    assert members == [[1, 3, 5], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert grown.shown == 4 * (3 + 5 + 6)
    assert grown.rates("convnet3") == (0.02, 0.05, 0.07)
    assert training(staged, "dsa", staged=True).rates("convnet3") == (0.01,) * 3
    flat = training(staged, "dsa", epochs=4, lr="set")
    assert (flat.plan.epochs, flat.plan.stages, flat.of_stage(0)) == (4, 1, None)
    assert (flat.shown, flat.rates("convnet3")) == (4 * 6, (0.07,))
    plain = training(make(), "dsa", staged=True, epochs=4)  # a set without stages has one
    assert (plain.plan.epochs, plain.plan.stages, plain.of_stage(0)) == (4, 1, None)


def free(**more) -> DistilledSet:
    """Make a set without labels."""
    targets = Targets(torch.ones(N, 2) / 2, "probabilities")
    return replace(make(), labels=None, targets=targets, **more)


TWO, FIVE = Targets(torch.ones(N, 2), "vectors"), Targets(torch.ones(N, 5), "vectors")
SET = {"labels": "set", "loss": "mse"}
INSIDE = NORMALISED.apply(pixels() / 255)


@pytest.mark.parametrize(
    ("distilled", "name", "overrides", "message"),
    [
        (make(), "unified", SET, "`labels: set`, but the set came without targets"),
        (make(targets=FIVE), "unified", SET, "have length 5, but students answer with 2 classes"),
        (
            make(targets=TWO),
            "unified",
            {"labels": "set"},
            "loss 'kl', but .* vectors: use `loss: mse`",
        ),
        (free(), "hard", {}, "needs class labels, which the set lacks: use `labels: set`"),
        (
            make(INSIDE, form=SetForm(transform=NORMALISED)),
            "hard_idc",
            {},
            "changes colours in .* evaluation.set_precision to uint8",
        ),
    ],
)
def test_recipes_that_a_set_cannot_be_trained_by(distilled, name, overrides, message):
    with pytest.raises(UserError, match=message):
        training(distilled, name, **overrides).check()


def test_recipes_that_it_can_be_trained_by():
    training(free(), "unified", **SET).check()
    training(make(targets=TWO), "unified", **SET).check()
    training(make(targets=FIVE), "hard").check()
    training(make(INSIDE, form=SetForm(transform=NORMALISED)).rounded(), "hard_idc").check()


def test_black_borders_need_black_and_leave_something_of_the_image():
    recipe = {**BARE, "pad_crop": 3, "flip": True}
    training(make(), **recipe).check()
    with pytest.raises(UserError, match=r"pad_crop 8, but the images of the set have 8 pixels"):
        training(make(), **{**recipe, "pad_crop": 8}).check()
    inside = make(NORMALISED.apply(pixels() / 255), form=SetForm(transform=NORMALISED))
    with pytest.raises(UserError, match="a space without black"):
        training(inside, **recipe).check()
