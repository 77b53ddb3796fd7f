"""The whole dataset as a distilled set: what students reach that see every real image."""

from baselines.whole_dataset.distiller import WholeDataset

__all__ = ["WholeDataset"]
