from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddoq.decoding import decoders
from ddoq.decoding.decoders import (
    Decoder,
    Grid,
    Pixels,
    decoder_from,
    decoder_names,
    register_decoder,
    split_grid,
    tile_grid,
)
from ddoq.errors import UserError


def images(n: int = 2, side: int = 8) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_pixels_are_what_is_stored():
    stored = images()
    decoded, index = Pixels().decode(stored, {})
    assert decoded is stored
    assert index.tolist() == [0, 1]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_grid_is_split_and_enlarged_like_each_tile_alone(factor):
    stored, side = images(), 8 // factor
    decoded, index = Grid(factor).decode(stored, {})
    assert decoded.shape == (2 * factor**2, 3, 8, 8)
    assert index.tolist() == sorted(list(range(2)) * factor**2)
    number = 0
    for image in stored:
        for row in range(factor):
            for column in range(factor):
                tile = image[
                    None,
                    :,
                    row * side : (row + 1) * side,
                    column * side : (column + 1) * side,
                ]
                large = F.interpolate(tile, scale_factor=factor, mode="bilinear")
                torch.testing.assert_close(decoded[number : number + 1], large)
                number += 1


def test_gradients_reach_the_stored_images():
    stored = images().requires_grad_()
    split_grid(stored, 2).square().sum().backward()
    assert stored.grad is not None
    assert bool((stored.grad != 0).all())


def test_8_bit_grids_become_floats():
    stored = (images() * 255).to(torch.uint8)
    decoded, _ = Grid(2).decode(stored, {})
    torch.testing.assert_close(decoded, split_grid(stored / 255, 2))
    assert Grid(2).gives_pixels(stored)
    assert not Grid(2).gives_pixels(images())


@pytest.mark.parametrize("decoder", [Pixels(), Grid(3)])
def test_descriptions_make_the_decoder_again(decoder):
    assert decoder_from(decoder.describe(), "a file") == decoder


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "gan", "layer": 3}, r"set/metadata.json: .*'gan'.* Valid.*grid.*pixels"),
        ("gan", "decoder 'gan'"),
        (None, "decoder None"),
        ({"name": "grid"}, "takes factor, not none"),
        ({"name": "pixels", "factor": 2}, "takes no value, not factor"),
        ({"name": "grid", "factor": 0}, "whole number from 1 on"),
        ({"name": "grid", "factor": 1.5}, "whole number from 1 on"),
    ],
)
def test_what_cannot_be_decoded_is_refused(description, message):
    with pytest.raises(UserError, match=message):
        decoder_from(description, "set/metadata.json")


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_tiled_grid_is_split_into_what_was_shrunk(factor):
    whole = images(2 * factor**2)
    tiled = tile_grid(whole, factor)
    assert tiled.shape == (2, 3, 8, 8)
    small = whole.reshape(-1, 3, 8 // factor, factor, 8 // factor, factor).mean(dim=(3, 5))
    grown = F.interpolate(small, size=8, mode="bilinear")
    torch.testing.assert_close(split_grid(tiled, factor), grown)


def test_a_grid_must_divide_the_image():
    with pytest.raises(UserError, match="3 x 3 does not divide images of 8 x 8"):
        Grid(3).check(images(), {})


def test_parts_that_nobody_decodes_are_refused():
    with pytest.raises(UserError, match="pixels has no use for latents"):
        Pixels().check(images(), {"latents": images()})


def test_a_method_brings_its_own_decoder(monkeypatch):
    monkeypatch.setattr(decoders, "_REGISTRY", dict(decoders._REGISTRY))

    @register_decoder
    @dataclass(frozen=True)
    class Repeated(Decoder):
        """Tiles one colour an image."""

        side: int
        name: ClassVar[str] = "repeated"

        def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
            pass

        def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            shape = (len(images), 3, self.side, self.side)
            return images[:, :, None, None].expand(shape), torch.arange(len(images))

    decoder = decoder_from({"name": "repeated", "side": 4}, "a file")
    assert decoder.decode(torch.rand(2, 3), {})[0].shape == (2, 3, 4, 4)
    assert "repeated" in decoder_names()

    class Another(Repeated):
        pass

    with pytest.raises(ValueError, match="two decoders are called 'repeated'"):
        register_decoder(Another)
