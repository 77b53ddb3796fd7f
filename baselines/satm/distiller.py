"""Trajectory matching under the worst small change of the images."""

from torch import nn

from baselines.trained import Trained
from baselines.trajectories import TrajectoryMatching
from ddoq.bounds import check_number
from ddoq.data import ImageDataModule
from ddoq.distillation.tables import ByBudget
from ddoq.objectives.trajectories import Gradient, Match, Segment, View, match_sharply
from ddoq.optimisation.real_images import Init
from ddoq.trajectories import ExpertTrajectories


class SATM(TrajectoryMatching):
    r"""Match trajectories where the loss is worst within a small ball around the images.

    .. math:: \min_S \max_{\|\epsilon\| \le \rho} L_{\mathrm{MTT}}(S + \epsilon)

    A step trains two students: one finds :math:`\epsilon`, along the gradient that goes back through the last steps alone
    (``truncation``); the other, on the changed images, goes on from where the first one was (``reuse``) and gives the
    gradient. With ``rho`` 0 there is nothing to find, and the step is MTT's, bit for bit.

    Source: *Enhancing Generalization via Sharpness-Aware Trajectory Matching for Dataset Condensation*, 2025, its abstract
    and reviews; there is no code. ``rho``, ``truncation`` and ``reuse`` are **ours**: the paper's were not to be had. All
    else is MTT's.

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
        rho: Radius of the ball, in the norm over all pixels of the set; ours.
        truncation: Share of a student's steps, the last ones, that the gradient for the change goes back through, in (0,
            1]; ours.
        reuse: Share of the first student's steps that the second takes over, in [0, 1); ours.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        gradient: ``full``, or ``detached``: the memory of one step instead of all, an approximation.
    """

    method = "satm"

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
        rho: float = 0.1,
        truncation: float = 1 / 3,
        reuse: float = 2 / 3,
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
        self.rho = rho
        self.truncation = truncation
        self.reuse = reuse

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        check_number("rho", self.rho, at_least=0)
        check_number("truncation", self.truncation, above=0, at_most=1)
        check_number("reuse", self.reuse, at_least=0, below=1)

    @property
    def through(self) -> int:
        """How many of a student's last steps the gradient for the change goes back through, at least one."""
        return max(1, round(self.truncation * self.steps))

    @property
    def taken_over(self) -> int:
        """How many steps of the first student the second takes over, at most all but one."""
        return min(self.steps - 1, round(self.reuse * self.steps))

    def match(self, network: nn.Module, segment: Segment, trained: Trained, view: View) -> Match:
        """Compare two students with an expert; one where there is no change to find."""
        if self.rho == 0:
            return super().match(network, segment, trained, view)
        return match_sharply(
            network,
            segment,
            trained.pixels.images,
            trained.rate.value,
            view,
            range(self.steps),
            rho=self.rho,
            through=self.through,
            reuse=self.taken_over,
            gradient=self.gradient,
        )

    def passes_of_a_step(self) -> float:
        """Count both students; what the truncated gradient saves is left out."""
        return 1.0 if self.rho == 0 else 2 - self.taken_over / self.steps
