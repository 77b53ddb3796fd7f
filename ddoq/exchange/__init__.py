"""Distilled sets in the formats of others: folders of images and parquet files, out and in, and on the Hub."""

from ddoq.exchange.card import ScoreRow, dataset_card
from ddoq.exchange.classes import ClassList, read_class_list
from ddoq.exchange.exporting import LAYOUTS, export_set
from ddoq.exchange.hub import push
from ddoq.exchange.importing import import_set
from ddoq.exchange.listing import Columns

__all__ = [
    "LAYOUTS",
    "ClassList",
    "Columns",
    "ScoreRow",
    "dataset_card",
    "export_set",
    "import_set",
    "push",
    "read_class_list",
]
