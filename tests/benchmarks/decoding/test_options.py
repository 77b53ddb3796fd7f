import pytest

from benchmarks.decoding.options import DecodingOptions, check_counts
from ddoq.errors import UserError
from ddoq.priors import Sampling


def test_the_grid_is_every_strength_with_every_guidance_in_order():
    options = DecodingOptions(strengths=[1.0, 0.3], guidances=[4.0, 1.0])
    grid = options.grid(Sampling(num_inference_steps=20))
    pairs = [(item.strength, item.guidance_scale) for item in grid]
    assert pairs == [(0.3, 1.0), (0.3, 4.0), (1.0, 1.0), (1.0, 4.0)]
    assert {item.num_inference_steps for item in grid} == {20}
    assert options == DecodingOptions(strengths=[0.3, 1.0], guidances=[1.0, 4.0])


def test_what_is_measured_unasked():
    assert len(DecodingOptions().grid(Sampling())) == 16


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strengths": []}, "--strengths is empty"),
        ({"guidances": []}, "--guidances is empty"),
        ({"strengths": [0.0]}, r"--strengths must be in \(0, 1\], not 0"),
        ({"strengths": [0.5, 1.2]}, r"--strengths must be in \(0, 1\], not 1.2"),
        ({"guidances": [0.9]}, r"--guidances must be in \[1, 1000\], not 0.9"),
        ({"guidances": [4.0, 1.0, 4.0]}, "--guidances lists 4 twice"),
        ({"ipc": 0}, "--ipc must be at least 1"),
        ({"per_class": -1}, "--per-class must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, told):
    with pytest.raises(UserError, match=told):
        DecodingOptions(**options)


def test_a_strength_without_a_step_is_refused():
    with pytest.raises(UserError, match=r"--strengths 0.1 of 5 steps leaves none"):
        DecodingOptions(strengths=[0.1, 0.5]).grid(Sampling(num_inference_steps=5))


def test_more_images_than_a_class_has_are_refused(coloured_noise):
    data = coloured_noise(per_class=6)
    check_counts(data, [6, 2])
    with pytest.raises(UserError, match=r"--per-class is 7, but class 'colour 0' .* has 6"):
        check_counts(data, [2, 7])
