"""What a recipe comes to for one distilled set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to for one distilled set.

    Attributes:
        epochs: Passes over the set, of all stages.
        batch_size: Images per optimiser step over all ranks; at most the set.
        crop_scale: Smallest and largest share of the area that a crop keeps.
        warmup: Epochs in which the rate rises.
        stages: In how many stages images join; each has as many epochs.
    """

    epochs: int
    batch_size: int
    crop_scale: tuple[float, float]
    warmup: int = 0
    stages: int = 1

    @property
    def stage_epochs(self) -> int:
        """Epochs of a stage."""
        return self.epochs // self.stages

    def stage_of(self, epoch: int) -> int:
        """Return the stage that an epoch belongs to, both counted from 0.

        Example:
            >>> [Plan(4, 1, (1.0, 1.0), stages=2).stage_of(epoch) for epoch in range(4)]
            [0, 0, 1, 1]
        """
        return min(epoch // self.stage_epochs, self.stages - 1)
