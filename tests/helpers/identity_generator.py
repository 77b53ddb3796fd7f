"""Generators without weights: one whose features are the pixels, and one of layers whose arithmetic a test can do."""

import torch

from baselines.glad import GeneratorSource
from ddoq.priors.generators import Generator, Latents, Split


class Identity(Generator):
    """Its one layer does nothing, and its latents are the images."""

    begins = "images"

    def __init__(self, image_size):
        super().__init__()
        self.image_size = image_size

    @property
    def splits(self):
        return (Split("pixels", (3, self.image_size, self.image_size)),)

    def begin(self, labels, images, generators):
        return Latents(images)

    def layer(self, number, features, style):
        return features


class Doubling(Identity):
    """Three layers: the first halves, the second adds its style to every pixel, the third doubles."""

    @property
    def splits(self):
        side = self.image_size
        return tuple(Split(name, (3, side, side)) for name in ("half", "shift", "double"))

    def begin(self, labels, images, generators):
        return Latents(images, torch.zeros(len(images), 3, 1))

    def layer(self, number, features, style):
        changes = (lambda f: f / 2, lambda f: f + style[:, :, None, None], lambda f: 2 * f)
        return changes[number](features)


class Given(GeneratorSource):
    """A generator that is there."""

    def __init__(self, kind: str = "identity") -> None:
        self.kind = kind
        self.made = None

    def give(self, data, prior):
        self.made = {"identity": Identity, "doubling": Doubling}[self.kind](data.image_size)

    def prepare(self, data, folder, where):
        pass

    @property
    def fingerprint(self):
        return self.kind

    def splits(self, data):
        return None if self.made is None else self.made.splits

    def generator(self):
        return self.made

    @property
    def knowledge(self):
        return f"generator {self.kind}"
