"""Networks for teachers and students: the field's ConvNets and everything that timm has."""

from ddoq.networks.build import build_network
from ddoq.networks.convnet import ConvNet
from ddoq.networks.layers import Normalize, count_parameters

__all__ = ["ConvNet", "Normalize", "build_network", "count_parameters"]
