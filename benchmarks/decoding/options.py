"""What ``ddoq-bench decoding`` is asked: which strengths and guidances, and of how many images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ddoq.bounds import check_number
from ddoq.data import ImageDataModule
from ddoq.errors import UserError
from ddoq.priors.base import MOST_GUIDANCE, Sampling

# D4M's shipped script decodes at 0.7, DiT's authors guide by 4; around these, from nearly the plain decode to nearly a sample
# from noise, and from no guidance to strong one.
STRENGTHS = (0.3, 0.5, 0.7, 1.0)
GUIDANCES = (1.0, 2.0, 4.0, 7.0)


@dataclass(frozen=True)
class DecodingOptions:
    """What is measured.

    Attributes:
        strengths: Strengths at which centroids are decoded, each in (0, 1].
        guidances: Guidance scales, each at least 1; every strength is tried with every one.
        ipc: Centroids per class; the method's own number where omitted, 10 without a method.
        per_class: Samples from noise and reconstructions per class; as many as centroids where omitted.

    Raises:
        UserError: If a list is empty, a number is out of its range, or one stands twice.
    """

    strengths: list[float] = field(default_factory=lambda: list(STRENGTHS))
    guidances: list[float] = field(default_factory=lambda: list(GUIDANCES))
    ipc: int | None = None
    per_class: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured; order the lists, so that order makes no difference."""
        for value in self.strengths:
            check_number("--strengths", value, above=0, at_most=1)
        for value in self.guidances:
            check_number("--guidances", value, at_least=1, at_most=MOST_GUIDANCE)
        for name in ("strengths", "guidances"):
            values = getattr(self, name)
            if not values:
                raise UserError(f"--{name} is empty: list at least one number, e.g. '[0.5, 0.7]'.")
            twice = [value for number, value in enumerate(values) if value in values[:number]]
            if twice:
                raise UserError(f"--{name} lists {twice[0]:g} twice.")
            object.__setattr__(self, name, sorted(map(float, values)))
        for name, count in (("--ipc", self.ipc), ("--per-class", self.per_class)):
            if count is not None:
                check_number(name, count, at_least=1)

    def grid(self, usual: Sampling) -> list[Sampling]:
        """List the settings: each strength with each guidance, and the steps of a method.

        Args:
            usual: What the method decodes with.

        Raises:
            UserError: If a strength leaves no step to run.

        Example:
            >>> options = DecodingOptions(strengths=[0.5], guidances=[4, 1])
            >>> [(s.strength, s.guidance_scale) for s in options.grid(Sampling())]
            [(0.5, 1.0), (0.5, 4.0)]
        """
        steps = usual.num_inference_steps
        idle = [strength for strength in self.strengths if int(steps * strength) < 1]
        if idle:
            raise UserError(
                f"--strengths {idle[0]:g} of {steps} steps leaves none to run. Leave it out, or raise "
                "model.init_args.sampling.num_inference_steps."
            )
        return [
            replace(usual, strength=strength, guidance_scale=guidance)
            for strength in self.strengths
            for guidance in self.guidances
        ]


def check_counts(data: ImageDataModule, counts: Sequence[int]) -> None:
    """Refuse more images a class than the smallest class has: real ones are measured beside them.

    Args:
        data: The dataset, set up.
        counts: Images a class.

    Raises:
        UserError: Naming the class.
    """
    sizes = {info.name: len(data.train.of_class(info.index)) for info in data.classes}
    name = min(sizes, key=lambda key: sizes[key])
    if max(counts) > sizes[name]:
        raise UserError(
            f"--per-class is {max(counts)}, but class '{name}' of {data.name} has {sizes[name]} training images, and as "
            "many real ones are measured beside the samples. Lower it."
        )
