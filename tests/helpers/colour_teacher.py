"""A teacher of coloured noise that names the class of the nearest mean colour, and needs no training."""

import torch
from torch import nn

from ddoq.data import ImageDataModule
from ddoq.images import to_float
from ddoq.teachers import Teacher


def colour_teacher(data: ImageDataModule) -> Teacher:
    """Build it: the logit of a class is largest where the mean colour of an image is nearest to that of the class."""
    images = to_float(data.train.load(range(len(data.train)))).mean((2, 3))
    means = torch.stack([images[data.train.of_class(k)].mean(0) for k in range(data.num_classes)])
    last = nn.Linear(3, data.num_classes)
    with torch.no_grad():
        last.weight.copy_(200 * means)
        last.bias.copy_(-100 * means.square().sum(1))
    return Teacher(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), last),
        arch="nearest-colour",
        class_names=data.classes.names,
        class_keys=data.classes.keys,
        image_size=data.image_size,
        accuracy=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
