"""What ``ddoq-bench theory`` is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ddoq.bounds import check_number
from ddoq.errors import UserError, suggest
from ddoq.quantization import METHODS

BUDGETS = (1, 2, 5, 10, 20, 50, 100)
# Where gaps are measured: on latents by a perceptron, on latents by a ConvNet, on images that the decoder or the whole
# diffusion model makes of them, on real images.
LATENTS, MAPS, VAE, DIFFUSION, REAL = "latents", "latents-conv", "vae", "diffusion", "real"
DECODERS = (VAE, DIFFUSION)


@dataclass(frozen=True)
class TheoryOptions:
    """What is measured.

    Attributes:
        ipc: Numbers of centroids a class; None takes those of :data:`BUDGETS` that every class has points for.
        quantizers: Methods of :func:`ddoq.quantization.quantize`.
        decode: How centroids become images: ``vae`` by the decoder alone, ``diffusion`` as the method of the configuration
            does; empty measures in the latent space alone.
        checkpoints: Training steps on real data at which the students' gradients are compared; 0 is initialisation.
        points: Training latents of a class that stand for it, drawn at random where there are more; as many held-out
            ones at most.
        arch: Student on images.
        markdown: File for the report, figures beside it; None keeps it beside the record.
    """

    ipc: list[int] | None = None
    quantizers: list[str] = field(default_factory=lambda: list(METHODS))
    decode: list[str] = field(default_factory=lambda: [VAE])
    checkpoints: list[int] = field(default_factory=lambda: [0, 20, 200])
    points: int = 1000
    arch: str = "convnet3-w16"
    markdown: str | None = None

    def __post_init__(self) -> None:
        """Refuse unknown names, numbers out of bounds, and lists that name something twice or nothing."""
        for name, values, known in (
            ("quantizers", self.quantizers, METHODS),
            ("decode", self.decode, DECODERS),
        ):
            for value in values:
                if value not in known:
                    raise UserError(f"Unknown --{name} {value!r}. {suggest(value, known)}")
        check_number("--points", self.points, at_least=2)
        for budget in self.ipc or []:
            check_number("--ipc", budget, at_least=1)
        for step in self.checkpoints:
            check_number("--checkpoints", step, at_least=0)
        for name in ("ipc", "quantizers", "decode", "checkpoints"):
            _check_list(name, getattr(self, name))

    def budgets(self, smallest: int) -> list[int]:
        """Return the numbers of centroids, in rising order.

        Args:
            smallest: Points of the smallest class.

        Raises:
            UserError: If one that was asked for is above it.

        Example:
            >>> TheoryOptions().budgets(12), TheoryOptions(ipc=[4, 2]).budgets(12)
            ([1, 2, 5, 10], [2, 4])
        """
        if self.ipc is None:
            return [k for k in BUDGETS if k <= smallest]
        if max(self.ipc) > smallest:
            raise UserError(
                f"--ipc asks for {max(self.ipc)} centroids, but the smallest class has {smallest} points. Lower it, or "
                "raise --points or data.init_args.limit_per_class if these are what limits it."
            )
        return sorted(self.ipc)


def _check_list(name: str, values: Sequence[Any] | None) -> None:
    if values is None:
        return
    if not values and name != "decode":
        raise UserError(f"--{name} must list at least one value.")
    if len(set(values)) < len(values):
        raise UserError(f"--{name} lists a value twice: {list(values)}.")
