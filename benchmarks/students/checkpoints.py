"""Students whose training was killed go on where it was, and end with the same bits."""

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from ddoq.optimisation.callbacks import SaveCheckpoints


class StudentCheckpoints(SaveCheckpoints):
    """Writes a checkpoint when one is due: after a step, or after the test that follows it.

    A training that goes on behind the last step of an epoch would leave out the test of this epoch. So what is due
    then is written once the test is over.
    """

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write one if it is time and no test follows."""
        every = trainer.check_val_every_n_epoch or 1
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not (last and (trainer.current_epoch + 1) % every == 0):
            super().on_train_batch_end(trainer)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write one if it is time."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_train_batch_end(trainer)
