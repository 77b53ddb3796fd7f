"""Matching of flat trajectories, and the average of the images on the way."""

from baselines.trajectories import TrajectoryMatching
from ddoq.distillation.tables import ByBudget
from ddoq.objectives.trajectories import Gradient
from ddoq.optimisation.real_images import Init
from ddoq.trajectories import ExpertTrajectories


class FTD(TrajectoryMatching):
    """Match trajectories as MTT does, with experts that took sharpness-aware steps, and keep an average of the images.

    A student that is evaluated never starts exactly where an expert was. From flat experts, images are learned that forgive
    that. The sharpness-aware step belongs to the experts (``rho`` and ``alpha`` of ``ExpertTrajectories``). With these and
    ``ema`` at 0 it is MTT, bit for bit.

    Source: J. Du, Y. Jiang, V. Y. F. Tan, J. T. Zhou and H. Li, *Minimizing the Accumulated Trajectory Error to Improve
    Dataset Distillation*, CVPR 2023; constants from the official repository AngusDujw/FTD-distillation at 711532a and its
    published table, by dataset and images per class: ``configs/papers``.

    Args:
        ipc: Images per class.
        experts: The recorded trainings on real images, sharpness-aware ones.
        seed: Decides first images, experts, starts, batches and augmentations.
        iterations: Steps of the images.
        steps: Steps of a student; or a table by number of classes and images per class, as the following ones may be.
        expert_epochs: How many epochs of an expert a student is compared with.
        max_start_epoch: Students start from experts that have less than so many epochs behind them.
        batch_syn: Synthetic images a student's step; None takes all of them.
        lr: Step size of the pixels.
        lr_step: Step size of the students' step size.
        step_size: The students' step size at first.
        momentum: Of both gradient descents.
        ema: Decay of the average of the images over the steps, which is the set; 0 keeps the last images.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        gradient: ``full``, or ``detached``: the memory of one step instead of all, an approximation.
    """

    method = "ftd"

    def __init__(
        self,
        ipc: int,
        experts: ExpertTrajectories,
        seed: int = 0,
        iterations: int = 5000,
        steps: ByBudget[int] = 20,
        expert_epochs: ByBudget[int] = 2,
        max_start_epoch: ByBudget[int] = 40,
        batch_syn: ByBudget[int | None] = None,
        lr: ByBudget[float] = 1000.0,
        lr_step: ByBudget[float] = 1e-5,
        step_size: ByBudget[float] = 0.01,
        momentum: float = 0.5,
        ema: ByBudget[float] = 0.999,
        init: Init = "real",
        gradient: Gradient = "full",
    ) -> None:
        super().__init__(
            ipc,
            experts,
            seed,
            iterations,
            steps,
            expert_epochs,
            max_start_epoch,
            batch_syn,
            lr,
            lr_step,
            step_size,
            momentum,
            init,
            gradient,
            ema,
        )
