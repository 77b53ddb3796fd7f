"""The loop of an optimisation that is written by hand: steps, checkpoints and lines of progress."""

from collections.abc import Callable, Iterator
from typing import Any, SupportsFloat

from ddoq.console import Progress
from ddoq.finite import DivergedError, LossWatch, is_finite
from ddoq.storage.checkpoints import StepCheckpoint, flatten


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
        what: What to call the work in lines of progress and errors; None prints no lines.
        mend: A sentence on what to try where the loss is not finite.

    Attributes:
        loss: Set it within a step to have it shown, and checked, detached from its graph; a tensor is read from its
            device only where a line is printed, or with many others.

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
        mend: str = "Lower the learning rate (model.init_args.lr).",
    ) -> None:
        self.total = total
        self.loss: SupportsFloat | None = None
        self._state = state
        self._restore = restore
        self._checkpoint = checkpoint
        self._what = what
        self._mend = mend

    def __iter__(self) -> Iterator[int]:
        """Restore what an earlier process left, and iterate over the steps from there.

        Raises:
            UserError: If there is a checkpoint that cannot be used, or one cannot be written.
            DivergedError: If a loss, or what a checkpoint would keep, is not finite.
        """
        first = self._resume()
        watch = LossWatch(first)
        progress = Progress(self._what, self.total, done=first) if self._what else None
        for step in range(first, self.total):
            yield step
            if self.loss is not None:
                watch.add(self.loss)
            if watch.due():
                self._look(watch)
            if self._checkpoint is not None and self._checkpoint.due():
                self._look(watch)
                self._checkpoint.save_step(step + 1, self._sound_state(step + 1))
            if progress is not None:
                progress.update(step + 1, loss=self.loss)
        self._look(watch)

    def _resume(self) -> int:
        """Return how many steps are done."""
        loaded = None if self._checkpoint is None else self._checkpoint.load_step()
        if loaded is None:
            return 0
        done, state = loaded
        self._restore(state)
        return done

    def _look(self, watch: LossWatch) -> None:
        """Read the losses since the last look."""
        bad = watch.first_bad()
        if bad is not None:
            step, loss = bad
            raise DivergedError(
                f"{self._what or 'The optimisation'} diverged: the loss was {loss} in step {step} of {self.total}. "
                f"{self._mend}"
            )

    def _sound_state(self, step: int) -> Any:
        """Return the state for a checkpoint; refuse one from which a run would go on with NaN."""
        state = self._state()
        if not all(is_finite(tensor) for tensor in flatten(state)[0].values()):
            raise DivergedError(
                f"{self._what or 'The optimisation'} diverged: after step {step} of {self.total} its state is not "
                f"finite (NaN or infinite). {self._mend}"
            )
        return state
