"""Datasets: labelled images with one authority on class order and a fingerprint of their contents."""

from ddoq.data.base import ImageDataModule, ImageSplit, SubsetSplit, TensorSplit
from ddoq.data.digits import Digits
from ddoq.data.huggingface import HuggingFaceImages
from ddoq.data.idx import FashionMNIST
from ddoq.data.imagefolder import ImageFolderImages
from ddoq.data.registries import REGISTRIES, imagenet_indices, load_registry
from ddoq.data.registry import ClassInfo, ClassRegistry

__all__ = [
    "REGISTRIES",
    "ClassInfo",
    "ClassRegistry",
    "Digits",
    "FashionMNIST",
    "HuggingFaceImages",
    "ImageDataModule",
    "ImageFolderImages",
    "ImageSplit",
    "SubsetSplit",
    "TensorSplit",
    "imagenet_indices",
    "load_registry",
]
