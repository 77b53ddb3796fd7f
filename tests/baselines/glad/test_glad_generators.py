import pytest
import torch
from safetensors.torch import save_file

from baselines.glad import OpenedGenerator, PriorDecoder, StyleGAN
from ddoq.costs.workload import Parts, Sizes
from ddoq.errors import UserError
from ddoq.priors.generators.style import StyleGenerator, StyleShape

STYLE = {"steps": 3, "batch_size": 4, "channels": 4, "max_channels": 8, "style_width": 8}
CPU = {"accelerator": "cpu"}


class Opened(OpenedGenerator):
    """A style-based generator of three classes, of 8 pixels."""

    def build(self):
        return StyleGenerator(StyleShape(8, 3, channels=4, max_channels=8))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    save_file(StyleGenerator(StyleShape(8, 3, channels=4, max_channels=8)).state_dict(), path)
    return path


def test_a_trained_generator_is_found_again(coloured_noise, tmp_path, capsys):
    data = coloured_noise()
    first, second = StyleGAN(**STYLE), StyleGAN(**STYLE)
    for source in (first, second):
        source.check(data)
        source.prepare(data, tmp_path / "generator", CPU)
    assert first.fingerprint == second.fingerprint
    assert "reused" in capsys.readouterr().out
    one, other = first.generator(), second.generator()
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert one.splits == first.splits(data)
    assert not any(weight.requires_grad for weight in one.parameters())
    assert (tmp_path / "generator" / "samples.png").is_file()
    assert not list(tmp_path.glob("*checkpoint*"))
    other_seed = StyleGAN(**STYLE, seed=1)
    other_seed.prepare(data, tmp_path / "other", CPU)
    assert other_seed.fingerprint != first.fingerprint


def test_plan_counts_the_training(coloured_noise):
    sizes = Sizes.of(coloured_noise())
    (stage,) = StyleGAN(**STYLE).workload(sizes)
    assert stage.passes == 2 * 3 * 4
    assert stage.flops > 0
    assert stage.memory > 0
    network, run = StyleGAN(**STYLE).counted(sizes, Parts())
    run(network, 2)
    assert PriorDecoder().counted(sizes, Parts()) is None


def test_weights_of_others_are_read(coloured_noise, weights):
    data = coloured_noise()
    source = Opened(str(weights))
    source.give(data, None)
    torch.manual_seed(1)
    expected = StyleGenerator(StyleShape(8, 3, channels=4, max_channels=8))
    assert torch.equal(source.generator().constant, expected.constant)
    assert source.numbers(torch.tensor([2, 0])).tolist() == [2, 0]
    assert source.knowledge == "generator StyleGenerator of weights.safetensors"
    assert "weights" not in source.settings()
    moved = weights.rename(weights.with_name("moved.safetensors"))
    assert Opened(str(moved)).fingerprint == source.__class__(str(moved)).fingerprint


def test_classes_are_a_part_of_the_generators(coloured_noise, weights):
    data = coloured_noise(classes=2)
    source = Opened(str(weights), classes=[2, 0])
    source.give(data, None)
    assert source.numbers(torch.tensor([0, 0, 1])).tolist() == [2, 2, 0]
    plain = Opened(str(weights))
    assert source.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("given", "data", "message"),
    [
        ({}, {"image_size": 16}, "makes images of 8 pixels, but those of the dataset have 16"),
        ({}, {"classes": 2}, "knows 3 classes, but the dataset has 2"),
        ({"classes": [0]}, {"classes": 2}, "generator.classes must be 2 numbers"),
        ({"classes": [0, 3]}, {"classes": 2}, "generator.classes must be 2 numbers"),
        ({"weights": "none.safetensors"}, {}, "must be a .safetensors file that is there"),
        ({"weights": "pickle.pt"}, {}, "must be a .safetensors file that is there"),
    ],
)
def test_what_does_not_fit_is_refused(coloured_noise, weights, given, data, message):
    with pytest.raises(UserError, match=message):
        Opened(**{"weights": str(weights), **given}).give(coloured_noise(**data), None)


def test_weights_of_another_network_are_refused(coloured_noise, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"other\.safetensors does not fit StyleGenerator"):
        Opened(str(path)).give(coloured_noise(), None)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"other\.safetensors does not fit StyleGenerator"):
        Opened(str(path)).give(coloured_noise(), None)


def test_sides_that_it_cannot_make_are_refused(coloured_noise):
    with pytest.raises(UserError, match="times a power of 2, not 9 pixels"):
        StyleGAN(**STYLE).check(coloured_noise(image_size=9))
