"""What makes training images and a training out of a set's tensors: decoder, transform and the authors' own recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddoq.bounds import check_finite, check_number
from ddoq.decoding.decoders import Decoder, Pixels
from ddoq.decoding.transform import Transform
from ddoq.errors import UserError

_KEYS = ("name", "overrides", "lr")
_STAGE_LRS = "stage_lrs"


@dataclass(frozen=True)
class SetRecipe:
    """How those who made a set train students on it; the recipe ``own`` of an evaluation.

    Attributes:
        name: A recipe that ships with the suite.
        overrides: Fields of it that differ (JSON values).
        lr: Learning rate that was learned with the images; recipes with ``lr: set`` start from it.
        stage_lrs: Those of the stages of a set that was learnt in stages; empty where there is none, or one for all.

    Raises:
        UserError: If a learning rate is not above 0.
    """

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    lr: float | None = None
    stage_lrs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a learning rate that cannot train."""
        if self.lr is not None:
            check_number("The learning rate of a set, lr,", self.lr, above=0)
        for rate in self.stage_lrs:
            check_number("The learning rate of a set, stage_lrs,", rate, above=0)
        check_finite("overrides", self.overrides)

    def describe(self) -> dict[str, Any]:
        """Return the fields, as records keep them; rates of stages only where there are any."""
        fields = {key: getattr(self, key) for key in _KEYS}
        return {**fields, _STAGE_LRS: list(self.stage_lrs)} if self.stage_lrs else fields

    @classmethod
    def read(cls, values: Any, where: object) -> "SetRecipe":
        """Make a recipe from a record.

        Args:
            values: What :meth:`describe` returned.
            where: The file it stands in, for errors.

        Raises:
            UserError: If it has other keys.
        """
        if not isinstance(values, Mapping) or set(values) - {_STAGE_LRS} != set(_KEYS):
            raise UserError(f"{where}: `recipe` must have the keys {', '.join(_KEYS)}.")
        if not isinstance(values["name"], str) or not isinstance(values["overrides"], Mapping):
            raise UserError(f"{where}: `recipe` must have a name and a mapping of overrides.")
        rates = values.get(_STAGE_LRS, [])
        if not isinstance(rates, list):
            raise UserError(f"{where}: `recipe.{_STAGE_LRS}` must be a list of numbers.")
        return cls(values["name"], dict(values["overrides"]), values["lr"], tuple(rates))


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
