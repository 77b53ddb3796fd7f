"""Networks for teachers and students: the field's ConvNets and ResNetAPs, and everything that timm has."""

from ddoq.networks.build import build_network, draw_network
from ddoq.networks.convnet import ConvNet
from ddoq.networks.features import penultimate
from ddoq.networks.layers import Normalize, count_parameters
from ddoq.networks.resnet_ap import ResNetAP

__all__ = [
    "ConvNet",
    "Normalize",
    "ResNetAP",
    "build_network",
    "count_parameters",
    "draw_network",
    "penultimate",
]
