import pytest
import torch
from sklearn.cluster import KMeans

from baselines.kmeans_selection import KMeansSelection
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.priors.base import Prior
from ddoq.quantization import quantize
from ddoq.seeding import derive_seed


class ColourPrior(Prior):
    """Encodes an image to its mean colour, and notes how it was asked."""

    latent_shape = (3, 1, 1)
    image_size = 8
    num_classes = None
    fingerprint = "colour"

    def __init__(self):
        super().__init__()
        self.batches = []

    def encode(self, images, *, generator=None):
        assert generator is None
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        self.batches.append(len(images))
        return images.mean((2, 3), keepdim=True)

    def decode(self, latents):
        raise NotImplementedError

    def generate(self, latents, class_ids, *, generators, sampling=None):
        raise NotImplementedError


def attached(data, ipc=3, **settings):
    distiller = KMeansSelection(ipc, **settings)
    distiller.attach(data, prior=ColourPrior() if distiller.needs_prior else None)
    return distiller


def distill_all(distiller):
    return [distiller.distill(item) for item in distiller.work_items(distiller.data)]


def clustered(make_data, sizes=(7, 4, 1)):
    """One class whose images lie around a dark, a middle and a bright gray."""
    data = make_data(num_classes=1, per_class=sum(sizes))
    centres = torch.tensor([20, 120, 220]).repeat_interleave(torch.tensor(sizes))
    noise = torch.randint(
        -5, 6, data.train.images.shape, generator=torch.Generator().manual_seed(0)
    )
    data.train.images = (centres.view(-1, 1, 1, 1) + noise).to(torch.uint8)
    return data


@pytest.mark.parametrize("features", ["pixel", "latent"])
def test_medoids_are_distinct_real_images_of_the_class(make_data, features):
    data = make_data()
    for label, shard in enumerate(distill_all(attached(data, features=features))):
        indices = shard.extras["indices"]
        assert len(set(indices.tolist())) == 3
        assert set(data.train.labels[indices].tolist()) == {label} == set(shard.labels.tolist())
        assert torch.equal(shard.images, data.train.load(indices.tolist()))
        assert shard.info["indices"] == indices.tolist()


@pytest.mark.parametrize("features", ["pixel", "latent"])
def test_one_image_of_each_cluster(make_data, features):
    data = clustered(make_data)
    (shard,) = distill_all(attached(data, features=features, restarts=5))
    gray = shard.images.float().mean((1, 2, 3))
    assert torch.allclose(gray.sort().values, torch.tensor([20.0, 120.0, 220.0]), atol=3)
    # The brightest cluster has 1 image, the darkest 7.
    assert shard.extras["counts"][gray.argsort()].tolist() == [7, 4, 1]


def test_selected_are_nearest_to_scikit_learns_centroids(make_data):
    data = clustered(make_data)
    points = to_float(data.train.images).flatten(1)
    reference = KMeans(3, n_init=10, random_state=0).fit(points.numpy())
    nearest = torch.cdist(torch.tensor(reference.cluster_centers_), points).argmin(1)
    (shard,) = distill_all(attached(data, features="pixel", restarts=5))
    assert set(shard.info["indices"]) == set(nearest.tolist())


def test_latents_decide_and_not_pixels(make_data):
    data = make_data(num_classes=1, per_class=30)
    latent, pixel = (
        distill_all(attached(data, ipc=5, features=features))[0].info["indices"]
        for features in ("latent", "pixel")
    )
    assert set(latent) != set(pixel)


def test_latents_are_encoded_in_batches(make_data):
    distiller = attached(make_data(num_classes=1), batch_size=5)
    distill_all(distiller)
    assert distiller.prior.batches == [5, 5, 2]


def test_codebook_is_that_of_ddoq(make_data):
    data = make_data(num_classes=2, per_class=30)
    for label, shard in enumerate(distill_all(attached(data, seed=3, restarts=2))):
        positions = data.train.of_class(label)
        latents = to_float(data.train.load(positions.tolist())).mean((2, 3))
        points = latents.half().float()  # as latents are kept
        lloyd = quantize(
            points, 3, method="lloyd", seed=derive_seed(3, "quantize", label), restarts=2
        )
        nearest = positions[torch.cdist(lloyd.centroids, points).argmin(1)]
        assert set(shard.info["indices"]) == set(nearest.tolist())


def test_weights(make_data):
    data = clustered(make_data)
    (shard,) = distill_all(attached(data, features="pixel", restarts=5))
    counts = shard.extras["counts"].float()
    plain = KMeansSelection(3, features="pixel")
    weighted = KMeansSelection(3, features="pixel", weighted=True)
    damped = KMeansSelection(3, features="pixel", weighted=True, weight_power=0.5)
    torch.testing.assert_close(plain.weigh(shard), torch.ones(3))
    torch.testing.assert_close(weighted.weigh(shard), counts * 3 / 12)
    torch.testing.assert_close(damped.weigh(shard), counts.sqrt() * 3 / counts.sqrt().sum())
    assert float(weighted.weigh(shard).mean()) == pytest.approx(1)


def test_shuffled_weights_are_the_same_ones_at_other_images(make_data):
    data = make_data(per_class=40)
    settings = {"ipc": 6, "features": "pixel", "weighted": True}
    cells, control = (attached(data, shuffle_weights=s, **settings) for s in (False, True))
    shards = distill_all(cells)
    true, shuffled = ([d.weigh(shard) for shard in shards] for d in (cells, control))
    assert [w.sort().values.tolist() for w in shuffled] == [w.sort().values.tolist() for w in true]
    assert any(not torch.equal(*pair) for pair in zip(true, shuffled, strict=True))
    again = attached(data, shuffle_weights=True, **settings)
    assert all(torch.equal(again.weigh(s), w) for s, w in zip(shards, shuffled, strict=True))
    other = attached(data, shuffle_weights=True, seed=1, **settings)
    assert any(not torch.equal(other.weigh(s), w) for s, w in zip(shards, shuffled, strict=True))
    orders = [
        w.argsort(stable=True)[t.argsort(stable=True).argsort()].tolist()
        for t, w in zip(true, shuffled, strict=True)
    ]
    assert len({tuple(order) for order in orders}) > 1  # each class has an order of its own
    assert "shuffle_weights" not in cells.settings()  # older keys stay


def test_weights_do_not_make_new_shards():
    plain, weighted = KMeansSelection(3), KMeansSelection(3, weighted=True, weight_power=0.5)
    assert plain.shard_settings() == weighted.shard_settings()
    shuffled = KMeansSelection(3, weighted=True, shuffle_weights=True)
    assert plain.shard_settings() == shuffled.shard_settings()
    assert plain.settings() != weighted.settings()
    assert plain.shard_settings() != KMeansSelection(3, features="pixel").shard_settings()
    assert plain.shard_settings() != KMeansSelection(4).shard_settings()


def test_seeds_repeat_and_order_does_not_matter(make_data):
    data = make_data(per_class=40)
    first = attached(data, ipc=6, features="pixel")
    items = first.work_items(data)
    forwards = [first.distill(item).info["indices"] for item in items]
    backwards = [first.distill(item).info["indices"] for item in reversed(items)][::-1]
    other = [
        s.info["indices"] for s in distill_all(attached(data, ipc=6, features="pixel", seed=1))
    ]
    assert forwards == backwards
    assert forwards != other


def test_summary_averages_the_distortion():
    distiller = KMeansSelection(3)
    assert distiller.summarize([{"distortion": 1.0}, {"distortion": 3.0}]) == {"distortion": 2.0}


def test_needs_a_prior_for_latents_only(make_data):
    assert KMeansSelection(1, features="latent").needs_prior
    assert not KMeansSelection(1, features="pixel").needs_prior
    with pytest.raises(UserError, match="needs a prior"):
        KMeansSelection(1).attach(make_data())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"features": "latnet"}, "Did you mean 'latent'"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"weight_power": 1.5}, "weight_power must be in"),
        ({"shuffle_weights": True}, "shuffle_weights needs weighted: true"),
        ({"ipc": 13}, "ipc is 13"),
        ({"ipc": 0}, "ipc must be at least 1"),
    ],
)
def test_wrong_settings(make_data, settings, words):
    with pytest.raises(UserError, match=words):
        KMeansSelection(**({"ipc": 3} | settings)).check(make_data())


def test_runs_under_a_trainer(make_data, trainer, tmp_path):
    data = clustered(make_data)
    distilled, _ = attached(data, weighted=True, restarts=5).run(trainer, tmp_path)
    assert sorted(distilled.weights.tolist()) == pytest.approx([0.25, 1.0, 1.75])
    assert distilled.metadata["statistics"]["distortion"] > 0
