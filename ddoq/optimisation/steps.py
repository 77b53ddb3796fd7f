"""The loop of an optimisation that is written by hand: steps, checkpoints and lines of progress."""

from collections.abc import Callable, Iterator
from typing import Any, SupportsFloat

from ddoq.console import Progress
from ddoq.storage.checkpoints import StepCheckpoint


class StepLoop:
    """Counts the steps of an optimisation, from where a killed process left it.

    Iterating gives the numbers of the steps that are still to do. After a step, its state is kept whenever a
    checkpoint is due. The state must be all that later steps depend on, and every draw must be keyed by its step
    (:func:`ddoq.seeding.generator_for`): then a run that was killed ends with the same bits as one that was not.

    Args:
        total: Number of steps.
        state: Returns all that later steps depend on, e.g. pixels and the optimiser's ``state_dict``: dicts, lists and
            tuples of tensors, numbers and texts.
        restore: Takes what ``state`` returned in an earlier process, tensors on the CPU.
        checkpoint: Where the state is kept; None keeps nothing. That of joint items takes a list of states, one an item.
        what: What to call the work in lines of progress; None prints none.

    Attributes:
        loss: Set it within a step to have it shown, detached from its graph; a tensor is read from its device only
            where a line is printed.

    Example:
        >>> import torch
        >>> x = torch.tensor([4.0])
        >>> loop = StepLoop(3, state=lambda: {"x": x}, restore=lambda state: x.copy_(state["x"]))
        >>> for step in loop:
        ...     x /= 2
        >>> x
        tensor([0.5000])
    """

    def __init__(
        self,
        total: int,
        *,
        state: Callable[[], Any],
        restore: Callable[[Any], Any],
        checkpoint: StepCheckpoint | None = None,
        what: str | None = None,
    ) -> None:
        self.total = total
        self.loss: SupportsFloat | None = None
        self._state = state
        self._restore = restore
        self._checkpoint = checkpoint
        self._what = what

    def __iter__(self) -> Iterator[int]:
        """Restore what an earlier process left, and iterate over the steps from there.

        Raises:
            UserError: If there is a checkpoint that cannot be used, or one cannot be written.
        """
        first = self._resume()
        progress = Progress(self._what, self.total, done=first) if self._what else None
        for step in range(first, self.total):
            yield step
            if self._checkpoint is not None and self._checkpoint.due():
                self._checkpoint.save_step(step + 1, self._state())
            if progress is not None:
                progress.update(step + 1, loss=self.loss)

    def _resume(self) -> int:
        """Return how many steps are done."""
        loaded = None if self._checkpoint is None else self._checkpoint.load_step()
        if loaded is None:
            return 0
        done, state = loaded
        self._restore(state)
        return done
