"""Datasets: labelled images with one authority on class order and a fingerprint of their contents."""

from ddoq.data.base import Data, ImageDataModule, LabelledData
from ddoq.data.class_registry import ClassInfo, ClassRegistry
from ddoq.data.digits import Digits
from ddoq.data.huggingface import HuggingFaceImages
from ddoq.data.idx import FashionMNIST
from ddoq.data.imagefolder import ImageFolderImages
from ddoq.data.known_registries import REGISTRIES, imagenet_indices, load_registry
from ddoq.data.smoke import FewImages, SyntheticImages
from ddoq.data.splits import ImageSplit, SubsetSplit, TensorSplit

__all__ = [
    "REGISTRIES",
    "ClassInfo",
    "ClassRegistry",
    "Data",
    "Digits",
    "FashionMNIST",
    "FewImages",
    "HuggingFaceImages",
    "ImageDataModule",
    "ImageFolderImages",
    "ImageSplit",
    "LabelledData",
    "SubsetSplit",
    "SyntheticImages",
    "TensorSplit",
    "imagenet_indices",
    "load_registry",
]
