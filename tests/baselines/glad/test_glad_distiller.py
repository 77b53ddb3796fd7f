import pytest
import torch
from identity_generator import Given
from killing import KilledError
from tiny_pipelines import build_dit
from two_ranks import distill_on_two_ranks

from baselines.bilp import BiLP, LossRanking
from baselines.dc import DC
from baselines.dm import DM
from baselines.frepo import FRePo
from baselines.glad import GLaD, PriorDecoder, StyleGAN
from baselines.idm import IDM
from baselines.mtt import MTT
from baselines.pdd import PDD
from baselines.random_selection import RandomSelection
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior
from ddoq.trajectories import ExpertTrajectories

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # pixels are what networks see
NETWORK = {"arch": "convnet2-w4", "batch_real": 6}
EXPERTS = {"arch": "convnet2-w4", "count": 2, "epochs": 3, "batch_size": 32, "zca": False}
STYLE = {"steps": 3, "batch_size": 4, "channels": 4, "max_channels": 8, "style_width": 8}


def dm(ipc=2, kind=DM, **changes):
    return kind(ipc, **NETWORK | {"iterations": 4, "lr": 5.0} | changes)


def mtt(ipc=2, **changes):
    given = {"iterations": 3, "steps": 2, "expert_epochs": 1, "max_start_epoch": 2, "lr": 5.0}
    return MTT(ipc, ExpertTrajectories(**EXPERTS), **given | changes)


BASES = {
    "dm": dm,
    "dc": lambda: dm(kind=DC, iterations=2, loops=(2, 1)),
    "mtt": mtt,
    "idm": lambda: dm(kind=IDM, factor=1, pool_start=2, pool_interval=1, net_steps=1, net_batch=8),
}


def glad(base, generator=None, **changes):
    rates = {"lr": 5.0, "lr_style": 0.5}
    method = GLaD(base, generator or Given(), **rates | changes)
    method.checkpoint_seconds = 0
    return method


def run(method, data, trainer, root, prior=None):
    method.attach(data, prior=prior)
    return method.run(trainer, root)[0]


@pytest.mark.parametrize("name", ["dm", "mtt", pytest.param("dc", marks=pytest.mark.slow)])
def test_a_generator_that_does_nothing_gives_the_bases_bits(
    name, coloured_noise, trainer, tmp_path
):
    data = coloured_noise(**PLAIN)
    base = run(BASES[name](), data, trainer, tmp_path)
    made = run(glad(BASES[name](), chunk=1), data, trainer, tmp_path)
    assert torch.equal(made.images, base.images)
    assert made.metadata["method"] == f"glad-{name}"
    assert made.metadata["statistics"] == base.metadata["statistics"]
    assert made.form.recipe == base.form.recipe
    assert made.fingerprint == base.fingerprint
    assert made.metadata["knowledge"] == "generator identity"
    assert made.metadata["split"] == "pixels"
    assert "knowledge" not in base.metadata


def test_momentum_goes_on_between_the_steps_of_others(coloured_noise, trainer, tmp_path):
    data = coloured_noise(**PLAIN)
    base = run(BASES["idm"](), data, trainer, tmp_path)
    made = run(glad(BASES["idm"]()), data, trainer, tmp_path)
    torch.testing.assert_close(made.images, base.images)


@pytest.mark.parametrize(("split", "factor"), [("half", 1 / 4), ("double", 4)])
def test_a_split_point_decides_what_is_optimised(split, factor, coloured_noise):
    """The steps of pixels are those of features, times the square of what lies between."""
    data = coloured_noise(**PLAIN)
    method = glad(dm(iterations=1), Given("doubling"), split=split, lr=1.0, lr_style=0.0)
    plain = dm(iterations=1, lr=1.0)
    method.attach(data)
    plain.attach(data)
    method.hand_on()
    item = plain.work_items(data)[0]
    start = plain.start(0)[1].images.detach()
    moved = [each.distill(item).images - start for each in (plain, method)]
    expected = {"half": 1, "double": 4}[split]  # halved and doubled again, or doubled alone
    assert factor in (1 / 4, 4)
    torch.testing.assert_close(moved[1], expected * moved[0])


def test_only_styles_of_the_layers_ahead_move(coloured_noise):
    method = glad(dm(), Given("doubling"), split="shift", lr_style=1.0)
    method.attach(coloured_noise(**PLAIN))
    method.hand_on()
    _, latents = method.core.start(1)
    latents.descend(latents.images.square().sum())
    moved = (latents.styles != 0).flatten(0)[:3]
    assert moved.tolist() == [False, True, False]
    assert latents.styles.shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("name", "rates"), [("dc", (1, 0.001)), ("dm", (10, 0.01)), ("mtt", (1e4, 10))]
)
def test_step_sizes_of_the_paper(name, rates):
    assert GLaD(BASES[name](), Given()).rates == rates


def test_wrappers_nest(coloured_noise, trainer, tmp_path):
    data = coloured_noise(**PLAIN)
    ranking = LossRanking("convnet2-w4", epochs=1)
    sets = [
        run(method, data, trainer, tmp_path)
        for method in (
            glad(BiLP(dm(), ranking, 0.5)),
            BiLP(glad(dm()), ranking, 0.5),
            BiLP(dm(), ranking, 0.5),
        )
    ]
    assert torch.equal(sets[0].images, sets[1].images)
    assert torch.equal(sets[0].images, sets[2].images)
    assert sets[1].metadata["knowledge"] == "generator identity"


@pytest.mark.parametrize("outside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_stages_of_latents(outside, coloured_noise, trainer, tmp_path):
    data = coloured_noise(**PLAIN)
    few = {"stages": 2, "networks": 1, "epochs": 1}
    staged = PDD(glad(dm(4)), **few) if outside else glad(PDD(dm(4), **few))
    made = run(staged, data, trainer, tmp_path)
    base = run(PDD(dm(4), **few), data, trainer, tmp_path)
    assert torch.equal(made.images, base.images)


class Killed(DM):
    """Ends in the middle of its second class."""

    networks = 1000

    def network(self, step):
        Killed.networks += 1
        if Killed.networks == 4 + 3:
            raise KilledError
        return super().network(step)


def test_a_killed_run_ends_with_the_same_bits(coloured_noise, trainer, tmp_path):
    data = coloured_noise()

    def make():
        return glad(dm(kind=Killed), StyleGAN(**STYLE), split="b8", lr=1.0)

    whole = run(make(), data, trainer, tmp_path / "whole")
    Killed.networks = 0
    with pytest.raises(KilledError):
        run(make(), data, trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed" / "shards").rglob("*.checkpoint"))) == 1
    Killed.networks = 1000
    again = run(make(), data, trainer, tmp_path / "killed")
    assert Killed.networks == 1000 + 2 + 4
    assert torch.equal(again.images, whole.images)
    assert again.metadata["ingredients"]["generator"]["seconds"] > 0
    assert "trained on all 60 training images" in again.metadata["knowledge"]


def test_two_ranks_give_the_bits_of_one(coloured_noise, trainer, tmp_path):
    def make():
        method = glad(dm(), StyleGAN(**STYLE), lr=1.0)
        method.attach(coloured_noise())
        return method

    one, folder = make().run(trainer, tmp_path / "one")
    distill_on_two_ranks(make, tmp_path / "two")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert two.fingerprint == one.fingerprint


def test_plan_counts_the_passes_of_the_generator(coloured_noise):
    data = coloured_noise()
    method = glad(dm(), StyleGAN(**STYLE))
    sizes = Sizes.of(data)
    *_, stage = method.workload(sizes, Parts())
    assert (stage.name, stage.passes, stage.batch) == ("make images", 4 * 3 * 2, 6)
    assert stage.flops > 0
    assert (
        glad(dm(kind=DC, loops=(2, 1)), StyleGAN(**STYLE)).workload(sizes, Parts())[-1].passes == 48
    )
    assert glad(dm()).workload(sizes, Parts())[-1].flops is None  # which generator, nobody knows


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: glad(dm(), Given("doubling"), split="dubble"),
            "split is 'dubble', but Given cannot be split there: it can before half, shift, double",
        ),
        (
            lambda: glad(dm(), StyleGAN(**STYLE), split="b16"),
            "split is 'b16', but StyleGAN .* before b4, b8, rgb",
        ),
        (
            lambda: glad(RandomSelection(2)),
            "pixels of RandomSelection: it needs a base .* model.init_args.base",
        ),
        (lambda: glad(FRePo(2)), "pixels of FRePo"),
        (lambda: glad(dm(kind=IDM)), "stores grids of 2 x 2 .*factor to 1"),
        (lambda: glad(glad(dm())), "optimises latents already"),
        (lambda: glad(dm(), lr=-1.0), "lr must be at least 0"),
        (lambda: glad(dm(), bound=0.0), "bound must be above 0"),
        (lambda: glad(dm(), chunk=0), "chunk must be at least 1"),
        (
            lambda: glad(dm(), StyleGAN(**STYLE | {"steps": 0})),
            "generator.steps must be at least 1",
        ),
        (lambda: glad(dm(), PriorDecoder()), "glad-dm needs a prior"),
    ],
)
def test_what_cannot_be_done_is_refused(coloured_noise, make, message):
    with pytest.raises(UserError, match=message):
        make().attach(coloured_noise())


def test_latents_of_a_prior_begin_with_the_images_of_the_base(coloured_noise, trainer, tmp_path):
    build_dit().save_pretrained(tmp_path / "a-prior")
    prior = DiffusionPrior.from_pretrained(tmp_path / "a-prior")
    data = coloured_noise()
    method = glad(dm(), PriorDecoder(), split="mid", lr=1.0)
    made = run(method, data, trainer, tmp_path, prior)
    told = f"decoder of the prior a-prior (fingerprint {prior.fingerprint})"
    assert made.metadata["knowledge"] == told  # and not where it lies
    assert made.metadata["latents_begin_with"] == "images"
    assert made.metadata["split"] == "mid"
    assert made.metadata["context"]["prior"] == prior.fingerprint
    base = dm()
    base.attach(data)
    transform = base._transform()
    real = transform.invert(base.start(2)[1].images.detach()).clamp(0, 1)
    decoded = prior.vae.decode(prior.vae.encode(2 * real - 1).latent_dist.mode()).sample / 2 + 0.5
    begun = method.core.start(2)[1].images.detach()
    torch.testing.assert_close(begun, transform.apply(decoded), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(made.images[4:], begun, atol=1e-3)
    with pytest.raises(UserError, match=r"images of 8 pixels, but those of the dataset have 16"):
        glad(dm(), PriorDecoder()).attach(coloured_noise(image_size=16), prior=prior)


def test_a_prior_without_an_autoencoder_is_refused(coloured_noise, pooling_prior):
    with pytest.raises(UserError, match=r"PriorDecoder splits the autoencoder .* PoolingPrior"):
        glad(dm(), PriorDecoder()).attach(coloured_noise(), prior=pooling_prior())
