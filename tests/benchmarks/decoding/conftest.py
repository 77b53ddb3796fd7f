"""A study of coloured noise, and a record that nobody measured."""

import pytest
from colour_teacher import colour_teacher

from benchmarks.decoding.measuring import DecodingStudy
from benchmarks.decoding.options import DecodingOptions
from benchmarks.decoding.record import DecodingRecord, ImageFigures
from ddoq.ddoq import DDOQ
from ddoq.measures import DecodedSetting


@pytest.fixture
def study_of(coloured_noise, pooling_prior, trainer, tmp_path):
    data = coloured_noise()

    def make(prior=None, ipc=2, **options) -> DecodingStudy:
        given = {"strengths": [0.5, 1.0], "guidances": [1.0, 4.0], **options}
        method = DDOQ(ipc)
        method.attach(data, prior=prior or pooling_prior())
        return DecodingStudy(
            data, method, colour_teacher(data), DecodingOptions(**given), trainer, tmp_path
        )

    return make


@pytest.fixture
def record() -> DecodingRecord:
    settings = [
        DecodedSetting(strength, guidance, 20, 0.4 + strength * guidance / 10, 3.0, 20 / strength)
        for strength in (0.5, 1.0)
        for guidance in (1.0, 4.0)
    ]
    config = {"method": "ddoq", "ipc": 10, "seed": 0, "steps": 50, "prior": "0123456789abcdef"}
    return DecodingRecord(
        config=config,
        dataset="toy $x$",
        class_names=["cat", "dog"],
        prior={"reconstruction_psnr": 25.25, "reconstructed": 20},
        teacher={"arch": "convnet3", "accuracy": 0.9},
        sets=[
            ImageFigures("real test images", 400, 0.9, None),
            ImageFigures("real training images", 20, 0.95, 1.5),
            ImageFigures("samples from noise, guidance 4", 40, 0.5, 1234.5),
        ],
        settings=settings,
        rule="the best one",
        picked=settings[-1],
        reached=True,
        provenance={"versions": {"torch": "2"}},
        created="2026-01-01T00:00:00+00:00",
    )
