import pytest
import torch
from identity_generator import Given
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.dc import DC
from baselines.dm import DM
from baselines.glad import GLaD, StyleGAN
from baselines.h_glad import HGLaD
from baselines.h_glad.judging import Judge
from baselines.mtt import MTT
from baselines.random_selection import RandomSelection
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.networks import draw_network
from ddoq.trajectories import ExpertTrajectories

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NETWORK = {"arch": "convnet2-w4", "batch_real": 6}
EXPERTS = {"arch": "convnet2-w4", "count": 2, "epochs": 3, "batch_size": 32, "zca": False}
STYLE = {"steps": 3, "batch_size": 4, "channels": 4, "max_channels": 8, "style_width": 8}
FEW = {"judges": 2, "judged": 8, "lr": 1.0, "lr_style": 0.5}


def dm(kind=DM, **changes):
    return kind(2, **NETWORK | changes)


BASES = {
    "dm": dm,
    "dc": lambda: dm(DC, loops=(2, 1)),
    "mtt": lambda: MTT(
        2, ExpertTrajectories(**EXPERTS), steps=2, expert_epochs=1, max_start_epoch=2
    ),
}


def h_glad(base=None, generator=None, steps=2, **changes):
    method = HGLaD(base or dm(), generator or Given("doubling"), steps=steps, **FEW | changes)
    method.checkpoint_seconds = 0
    return method


def run(method, data, trainer, root):
    method.attach(data)
    return method.run(trainer, root)[0]


@pytest.mark.parametrize(
    "name", ["dm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dc", "mtt"))]
)
def test_all_layers_are_gone_through(name, coloured_noise, trainer, tmp_path):
    method = h_glad(BASES[name]())
    made = run(method, coloured_noise(), trainer, tmp_path)
    assert method.core.iterations == 3 * 2
    assert list(made.metadata["statistics"]["chosen"]) == ["half", "shift", "double"]
    assert all(
        0 <= step <= 2 * (1 + (name == "dc"))
        for step in made.metadata["statistics"]["chosen"].values()
    )
    assert made.metadata["method"] == f"h-glad-{name}"
    assert made.metadata["settings"]["base"]["init_args"]["iterations"] == 6
    assert made.metadata["knowledge"] == "generator doubling"


def test_one_layer_whose_last_step_is_nearest_is_glad(
    coloured_noise, trainer, tmp_path, monkeypatch
):
    data = coloured_noise(**PLAIN)
    falling = iter(range(1000, 0, -1))
    monkeypatch.setattr(Judge, "distance", lambda *_: torch.tensor(float(next(falling))))
    swept = run(h_glad(first="double", last="double", steps=4), data, trainer, tmp_path)
    rates = {"lr": 1.0, "lr_style": 0.5}
    glad = GLaD(dm(iterations=4), Given("doubling"), split="double", **rates)
    assert torch.equal(swept.images, run(glad, data, trainer, tmp_path).images)


def test_choosing_the_first_everywhere_leaves_the_first_images(
    coloured_noise, trainer, tmp_path, monkeypatch
):
    data = coloured_noise(**PLAIN)
    rising = iter(range(1000))
    monkeypatch.setattr(Judge, "distance", lambda *_: torch.tensor(float(next(rising))))
    method = h_glad()
    made = run(method, data, trainer, tmp_path)
    plain = dm()
    plain.attach(data)
    starts = torch.cat([plain.start(label)[1].images.detach() for label in range(3)])
    assert torch.equal(made.images, starts)


def test_a_judge_prefers_images_of_the_class(coloured_noise):
    """Without a norm, under which the colours that tell these classes apart are lost."""
    data = coloured_noise()
    drawn = (draw_network("convnet2-w8-nonorm", 3, 8, "judge", n, seed=0) for n in range(5))
    networks = [network.eval().requires_grad_(False) for network in drawn]
    real = {k: data.train.load(data.train.of_class(k).tolist()).float() / 255 for k in range(3)}
    judge = Judge(networks, {k: images[:10] for k, images in real.items()})
    for label in range(3):
        labels = torch.full((5,), label)
        found = [judge.distance(real[other][10:15], labels) for other in range(3)]
        assert min(range(3), key=lambda other: found[other]) == label
    both = torch.tensor([0] * 5 + [1] * 5)
    images = torch.cat([real[0][10:15], real[2][10:15]])
    apart = judge.distance(images[:5], both[:5]) + judge.distance(images[5:], both[5:])
    torch.testing.assert_close(judge.distance(images, both), apart)


class Killed(DM):
    """Ends in the middle of its second class, before its third layer."""

    networks = 1000

    def network(self, step):
        Killed.networks += 1
        if Killed.networks == 6 + 5:
            raise KilledError
        return super().network(step)


def test_a_killed_run_ends_with_the_same_bits(coloured_noise, trainer, tmp_path):
    data = coloured_noise()

    def make():
        return h_glad(dm(Killed))

    whole = run(make(), data, trainer, tmp_path / "whole")
    Killed.networks = 0
    with pytest.raises(KilledError):
        run(make(), data, trainer, tmp_path / "killed")
    Killed.networks = 1000
    again = run(make(), data, trainer, tmp_path / "killed")
    assert Killed.networks == 1000 + 2 + 6
    assert torch.equal(again.images, whole.images)
    assert again.metadata["statistics"] == whole.metadata["statistics"]


def test_two_ranks_give_the_bits_of_one(coloured_noise, trainer, tmp_path):
    def make():
        method = h_glad()
        method.attach(coloured_noise())
        return method

    one, folder = make().run(trainer, tmp_path / "one")
    distill_on_two_ranks(make, tmp_path / "two")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert two.fingerprint == one.fingerprint


@pytest.mark.parametrize(("name", "steps"), [("dc", 100), ("dm", 10), ("mtt", 100)])
def test_steps_of_the_paper(name, steps):
    assert HGLaD(BASES[name](), Given())._steps == steps


def test_plan_counts_all_layers(coloured_noise):
    sizes = Sizes.of(coloured_noise())
    method = h_glad(generator=StyleGAN(**STYLE))
    *_, stage = method.workload(sizes, Parts())
    assert stage.passes == 3 * 2 * 3 * 2  # layers, steps, classes, images
    assert method.core.iterations == 20_000  # it was only planned


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: h_glad(first="b4"),
            "first is 'b4', but Given cannot be split there: it can before half",
        ),
        (lambda: h_glad(last="end"), "last is 'end', but Given cannot be split there"),
        (
            lambda: h_glad(first="double", last="half"),
            "last is 'half', which comes before first, 'double'",
        ),
        (lambda: h_glad(generator=StyleGAN(**STYLE), last="b16"), "last is 'b16', but StyleGAN"),
        (
            lambda: h_glad(RandomSelection(2)),
            "HGLaD cannot put latents in the place of the pixels of RandomSelection",
        ),
        (lambda: h_glad(h_glad()), "optimises latents already"),
        (lambda: h_glad(steps=0), "steps must be at least 1"),
        (lambda: h_glad(judges=0), "judges must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused(coloured_noise, make, message):
    with pytest.raises(UserError, match=message):
        make().attach(coloured_noise())
