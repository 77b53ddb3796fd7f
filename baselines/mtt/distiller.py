"""Synthetic images on which a student gets in a few steps where an expert got in some epochs."""

from baselines.trajectories import TrajectoryMatching
from ddoq.distillation.tables import ByBudget
from ddoq.objectives.trajectories import Gradient
from ddoq.optimisation.real_images import Init
from ddoq.trajectories import ExpertTrajectories


class MTT(TrajectoryMatching):
    r"""Match the end of a student's training on synthetic images with a later checkpoint of an expert.

    .. math::
        \min_{S, \alpha} \; \mathbb{E}_{\theta^*, t} \;
        \frac{\|\theta_N(S, \alpha) - \theta^*_{t+M}\|^2}{\|\theta^*_t - \theta^*_{t+M}\|^2}, \quad
        \theta_{i+1} = \theta_i - \alpha \nabla_\theta \ell(A(S_i); \theta_i), \quad \theta_0 = \theta^*_t

    The step size :math:`\alpha` is learned with the images and is the learning rate of their evaluation.

    Source: G. Cazenavette, T. Wang, A. Torralba, A. A. Efros and J.-Y. Zhu, *Dataset Distillation by Matching Training
    Trajectories*, CVPR 2022; constants from the official repository GeorgeCazenavette/mtt-distillation at 50dccea and its
    published table, which sets most of them by dataset and images per class: ``configs/papers``. Defaults here are what is
    commonest in it.

    Args:
        ipc: Images per class.
        experts: The recorded trainings on real images; students have their network, augmentation and whitening.
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
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        gradient: ``full``, or ``detached``: the memory of one step instead of all, an approximation.
    """

    method = "mtt"

    def __init__(
        self,
        ipc: int,
        experts: ExpertTrajectories,
        seed: int = 0,
        iterations: int = 5000,
        steps: ByBudget[int] = 20,
        expert_epochs: ByBudget[int] = 2,
        max_start_epoch: ByBudget[int] = 20,
        batch_syn: ByBudget[int | None] = None,
        lr: ByBudget[float] = 1000.0,
        lr_step: ByBudget[float] = 1e-5,
        step_size: ByBudget[float] = 0.01,
        momentum: float = 0.5,
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
        )
