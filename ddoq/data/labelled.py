"""What every labelled dataset offers, of images or of anything else: classes, fingerprints and a description."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import lightning as L

from ddoq.data.class_registry import ClassRegistry
from ddoq.errors import UserError
from ddoq.smoke import Tiny
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import seen_key


class LabelledData(Tiny, L.LightningDataModule, ABC):
    """A labelled dataset: what the key ``data`` of a configuration may name.

    Attributes:
        holds: What its samples are, in the plural, e.g. ``images``.
        name: What tables call it.
        classes: Its classes; there after :meth:`setup`.
    """

    holds: ClassVar[str]
    name: str
    classes: ClassRegistry
    _loaded: bool = False

    @abstractmethod
    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what results record of the dataset, as JSON values; needs :meth:`setup`."""

    def require_setup(self) -> None:
        """Refuse to go on with a dataset that is not open.

        Raises:
            UserError: Before :meth:`setup`.
        """
        if not self._loaded:
            raise UserError(f"{self.name} is not open yet: call setup() on the dataset first.")

    @property
    def num_classes(self) -> int:
        """How many classes there are; needs :meth:`setup`."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """Hash of all that :meth:`describe` says; needs :meth:`setup`."""
        return hash_config(self.describe())

    @property
    def train_fingerprint(self) -> str:
        """Hash of what decides the training samples and their labels, and of nothing else; needs :meth:`setup`."""
        return seen_key(self.describe())

    @property
    def normalized_fingerprint(self) -> str:
        """As :attr:`train_fingerprint`, with mean and deviation, for parts that see normalised samples."""
        return seen_key(self.describe(), normalized=True)
