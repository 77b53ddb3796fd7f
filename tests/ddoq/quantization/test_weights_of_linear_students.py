"""Where theory says that cell masses help, they do: logistic regression on weighted centroids of digits.

A linear student of few features cannot fit every point, so that it matters how often each counts. In as many dimensions
as digits have, ten centroids a class can be told apart whatever they weigh, and masses change next to nothing.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from ddoq.quantization import cell_weights, quantize

SEEDS, K = range(3), 10


def centroids_of(points, labels, seed):
    """Quantise each class: centroids, labels and cell masses."""
    parts = []
    for label in range(10):
        of_class = torch.tensor(points[labels == label], dtype=torch.float32)
        codebook = quantize(of_class, K, method="lloyd", seed=seed)
        parts.append((codebook.centroids.numpy(), cell_weights(codebook.counts).numpy()))
    centroids, masses = (np.concatenate(column) for column in zip(*parts, strict=True))
    return centroids, np.repeat(np.arange(10), K), masses


def trained(points, labels, weights, inverse_penalty):
    model = LogisticRegression(C=inverse_penalty, max_iter=2000)
    return model.fit(points, labels, sample_weight=weights)


def outcomes(dimensions, inverse_penalty):
    """Return accuracy and distance to the student of all data, by weights, a row a seed."""
    points, labels = load_digits(return_X_y=True)
    rows = {name: [] for name in ("uniform", "masses", "shuffled")}
    for seed in SEEDS:
        train, test, of_train, of_test = train_test_split(
            points / 16, labels, test_size=0.4, random_state=seed, stratify=labels
        )
        components = PCA(dimensions, random_state=0).fit(train)
        train, test = components.transform(train), components.transform(test)
        real = trained(train, of_train, np.ones(len(train)), inverse_penalty)
        centroids, classes, masses = centroids_of(train, of_train, seed)
        shuffled = masses.reshape(10, K)[:, np.random.default_rng(seed).permutation(K)].ravel()
        for name, weights in zip(rows, (np.ones(len(masses)), masses, shuffled), strict=True):
            # Penalties count per image: with fewer images the sum of losses weighs less beside them.
            scale = len(train) / len(masses)
            student = trained(centroids, classes, weights, inverse_penalty * scale)
            distance = np.linalg.norm(student.coef_ - real.coef_) / np.linalg.norm(real.coef_)
            rows[name].append((student.score(test, of_test), distance))
    return {name: np.array(values).mean(0) for name, values in rows.items()}


@pytest.mark.parametrize("inverse_penalty", [0.01, 1e4], ids=["penalised", "free"])
def test_masses_help_a_student_that_cannot_fit_every_point(inverse_penalty):
    of = outcomes(4, inverse_penalty)
    assert of["masses"][0] > of["uniform"][0] + 0.01
    assert of["masses"][0] > of["shuffled"][0] + 0.01  # not any uneven weights do


def test_a_penalised_student_of_weighted_centroids_is_that_of_all_data():
    for dimensions in (4, 64):
        of = outcomes(dimensions, 0.01)
        assert of["masses"][1] < 0.1 < of["uniform"][1] < of["shuffled"][1]


def test_masses_change_next_to_nothing_where_every_point_can_be_fitted():
    of = outcomes(64, 1e4)
    assert abs(of["masses"][0] - of["uniform"][0]) < 0.01
