"""How students learn from distilled graphs."""

from dataclasses import asdict, dataclass
from typing import Any

from ddoq.bounds import check_number
from ddoq.errors import UserError


@dataclass(frozen=True)
class GraphProtocol:
    """How students learn from distilled graphs: Adam, whose rate falls to a tenth halfway, and hard labels.

    The numbers are those of DosCond (W. Jin et al., KDD 2022; amazon-science/doscond at 1790a72), which takes 100 epochs on
    ogbg-molhiv. There the test score of the best epoch on validation graphs is reported; here that is a second column, and
    the headline is the score after the last epoch.

    Attributes:
        epochs: Passes over the set.
        batch_size: Graphs a step.
        lr: Rate at the start.
        validate_every: Epochs between two looks at the validation graphs; the last epoch always ends with one.

    Raises:
        UserError: If a number is out of its range.
    """

    epochs: int = 500
    batch_size: int = 128
    lr: float = 1e-3
    validate_every: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        prefix = "evaluation.graphs"
        for name in ("epochs", "batch_size", "validate_every"):
            value = getattr(self, name)
            check_number(f"{prefix}.{name}", value, at_least=1)
            if not isinstance(value, int):
                raise UserError(f"{prefix}.{name} must be a whole number, not {value}.")
        check_number(f"{prefix}.lr", self.lr, above=0)

    def numbers(self) -> dict[str, Any]:
        """Return all settings, as JSON values."""
        return asdict(self)
