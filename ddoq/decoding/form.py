"""What makes training images and a training out of a set's tensors: decoder, transform and the authors' own recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddoq.bounds import check_finite, check_number
from ddoq.decoding.decoders import Decoder, Pixels
from ddoq.decoding.transform import Transform
from ddoq.errors import UserError

_KEYS = ("name", "overrides", "lr")


@dataclass(frozen=True)
class SetRecipe:
    """How those who made a set train students on it; the recipe ``own`` of an evaluation.

    Attributes:
        name: A recipe that ships with the suite.
        overrides: Fields of it that differ (JSON values).
        lr: Learning rate that was learned with the images; recipes with ``lr: set`` start from it.

    Raises:
        UserError: If the learning rate is not above 0.
    """

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    lr: float | None = None

    def __post_init__(self) -> None:
        """Refuse a learning rate that cannot train."""
        if self.lr is not None:
            check_number("The learning rate of a set, lr,", self.lr, above=0)
        check_finite("overrides", self.overrides)

    def describe(self) -> dict[str, Any]:
        """Return the fields, as records keep them."""
        return {key: getattr(self, key) for key in _KEYS}

    @classmethod
    def read(cls, values: Any, where: object) -> "SetRecipe":
        """Make a recipe from a record.

        Args:
            values: What :meth:`describe` returned.
            where: The file it stands in, for errors.

        Raises:
            UserError: If it has other keys.
        """
        if not isinstance(values, Mapping) or set(values) != set(_KEYS):
            raise UserError(f"{where}: `recipe` must have the keys {', '.join(_KEYS)}.")
        if not isinstance(values["name"], str) or not isinstance(values["overrides"], Mapping):
            raise UserError(f"{where}: `recipe` must have a name and a mapping of overrides.")
        return cls(values["name"], dict(values["overrides"]), values["lr"])


@dataclass(frozen=True)
class SetForm:
    """What a set is, beyond rows of tensors. The default is plain images in pixels.

    Attributes:
        decoder: Makes images of the stored tensors.
        transform: The space of float images, and of the networks that learn from them. Raw images, of the test set too,
            are mapped to it; without it students normalise as the dataset says.
        recipe: How its authors train students; None where they say nothing.
    """

    decoder: Decoder = field(default_factory=Pixels)
    transform: Transform | None = None
    recipe: SetRecipe | None = None
