"""What methods share that match the trainings of students on synthetic images with those of experts on real ones."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from baselines.pixels import FirstImages, PixelMethod, new_images
from baselines.trained import Trained
from ddoq.augmentation.siamese import FULL_STRATEGY, augment_siamese, draw_siamese_batch
from ddoq.bounds import check_number
from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.stages import device_of, network_stage, training_stage
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.distillation.ingredient import folder_of
from ddoq.distillation.shard import Shard, WorkItem, check_budget
from ddoq.distillation.stages import Earlier, WarmUp
from ddoq.distillation.tables import ByBudget, settled
from ddoq.errors import UserError, suggest
from ddoq.objectives.functional import Weights, weights_of
from ddoq.objectives.trajectories import Gradient, Match, Segment, View, match_trajectory
from ddoq.optimisation.average import Average
from ddoq.optimisation.real_images import Init, check_init
from ddoq.optimisation.step_size import StepSize
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.trajectories import ExpertTrajectories
from ddoq.trajectories.beginning import Beginning

_CURVE = 50  # stretches of the optimisation whose mean losses the record keeps


class TrajectoryMatching(PixelMethod):
    """Optimises pixels, in the space that experts see, and the step size of the students that learn from them.

    A step draws an expert and an epoch of it, lets a student start there and learn from the synthetic images, and
    compares where it ends with the expert some epochs later. The whole set is one work item; ranks share the recording
    of the experts. All draws are keyed by seed and step.

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
        gradient: ``full`` keeps the graph of all steps of a student; ``detached`` needs the memory of one, and is an
            approximation where there are more.
        ema: Decay of the average of the images over the steps, which is the set; 0 keeps the last images.
    """

    continues = True
    latent_rates = (1e4, 10.0)

    def __init__(
        self,
        ipc: int,
        experts: ExpertTrajectories,
        seed: int,
        iterations: int,
        steps: ByBudget[int],
        expert_epochs: ByBudget[int],
        max_start_epoch: ByBudget[int],
        batch_syn: ByBudget[int | None],
        lr: ByBudget[float],
        lr_step: ByBudget[float],
        step_size: ByBudget[float],
        momentum: float,
        init: Init,
        gradient: Gradient,
        ema: ByBudget[float] = 0.0,
    ) -> None:
        super().__init__(ipc, seed)
        self.experts = experts
        self.iterations = iterations
        self.steps: int = settled(steps)
        self.expert_epochs: int = settled(expert_epochs)
        self.max_start_epoch: int = settled(max_start_epoch)
        self.batch_syn: int | None = settled(batch_syn)
        self.lr: float = settled(lr)
        self.lr_step: float = settled(lr_step)
        self.step_size: float = settled(step_size)
        self.momentum = momentum
        self.init = init
        self.gradient: Gradient = gradient
        self.ema: float = settled(ema)

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Stay within the two epochs of tiny experts."""
        changes = {"expert_epochs": 1, "max_start_epoch": 2, "batch_syn": None}
        return {**super().tiny(given), **changes}

    @property
    def matched_arch(self) -> str:
        """Those of the experts."""
        return self.experts.arch

    @property
    def needs_gradient(self) -> bool:
        """Of pixels and step size."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and starts from which experts do not go far enough."""
        super().check(data)
        for name in ("iterations", "steps", "expert_epochs", "max_start_epoch"):
            check_number(name, getattr(self, name), at_least=1)
        for name in ("lr", "step_size"):
            check_number(name, getattr(self, name), above=0)
        check_number("lr_step", self.lr_step, at_least=0)
        for name in ("momentum", "ema"):
            check_number(name, getattr(self, name), at_least=0, below=1)
        if self.gradient not in get_args(Gradient):
            raise UserError(
                f"Unknown gradient {self.gradient!r}. {suggest(self.gradient, get_args(Gradient))}"
            )
        check_init(self.init)
        if self.init == "real":
            check_budget(data, self.ipc)
        self._check_epochs()
        self._check_batch(data.num_classes * self.ipc)

    def _check_epochs(self) -> None:
        last, epochs = self._last_epoch, self.experts.epochs
        if last > epochs:
            raise UserError(
                f"A student may start at epoch {self.max_start_epoch - 1} (max_start_epoch: {self.max_start_epoch}) and is "
                f"then compared with epoch {last} of the expert (expert_epochs: {self.expert_epochs}), but experts have only "
                f"{epochs}: lower one of the two, or raise model.init_args.experts.init_args.epochs."
            )

    @property
    def _last_epoch(self) -> int:
        """Epochs of an expert that students may be compared with."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def _check_batch(self, images: int) -> None:
        if self.batch_syn is None:
            return
        check_number("batch_syn", self.batch_syn, at_least=1)
        if self.batch_syn > images:
            raise UserError(
                f"batch_syn is {self.batch_syn}, but the set has only {images} images: {self.steps} steps of a student would "
                f"be to see {self.steps * self.batch_syn}. Lower batch_syn, or leave it out: every step then sees all images."
            )

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item for all classes: students learn from all of them together."""
        return [WorkItem(0, "all", tuple(range(data.num_classes)))]

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Images are stored as they were optimised; students train at the learned step size, as the papers' do."""
        strategy = self.experts.augmentation
        overrides: dict[str, Any] = {"lr": "set"}
        if strategy not in ("none", FULL_STRATEGY):
            overrides["siamese"] = strategy
        recipe = SetRecipe("dc" if strategy == "none" else "dsa", overrides, infos[0]["step_size"])
        return SetForm(transform=self.experts.transform(), recipe=recipe)

    def distill(self, item: WorkItem) -> Shard:
        """Optimise the images of all classes."""
        labels = torch.arange(self.data.num_classes).repeat_interleave(self.ipc)
        if self.earlier is not None:
            labels = torch.cat([self.earlier.labels.cpu(), labels])
        network = self.experts.network(self.data.num_classes, self.data.image_size).to(self.device)
        weights = weights_of(network)
        trained = self.start()
        loop = StepLoop(
            self.iterations,
            state=trained.state,
            restore=trained.restore,
            checkpoint=self.checkpoint(item),
            what=f"{self.method}: {item.name}",
            mend="Lower the learning rates (model.init_args.lr and lr_step).",
        )
        for step in loop:
            segment = self.segment(step, weights)
            view = self.view(step, labels.to(self.device))
            trained.follow(self.match(network, segment, trained, view))
            loop.loss = trained.pixels.loss
        return self._shard(labels, trained)

    def start(self) -> Trained:
        """Make the images that the optimisation starts from, class by class, and the step size."""
        transform = self.experts.transform()
        firsts = []
        for label in range(self.data.num_classes):
            real = self.real_images(label, transform)
            generator = generator_for(self.seed, "trajectories", "init", label)
            firsts.append(new_images(real, self.ipc, self.earlier, self.init, generator))
        labels = torch.arange(self.data.num_classes).repeat_interleave(self.ipc)
        before = None if self.earlier is None else self.earlier.images
        first = FirstImages(
            torch.cat(firsts), labels, transform.to(self.device), self.momentum, before
        )
        pixels = self.parameterise(first, self.lr)
        rate = StepSize(self.step_size, self.lr_step, self.momentum, self.device)
        return Trained(pixels, rate, Average(pixels.images, self.ema))

    def segment(self, step: int, like: Weights) -> Segment:
        """Draw the expert of a step and where the student starts; all experts are passed before one comes again.

        Args:
            step: Of the images.
            like: Weights of the network.
        """
        turn, place = divmod(step, self.experts.count)
        order = torch.randperm(self.experts.count, generator=self.generator("experts", turn))
        start = torch.randint(self.max_start_epoch, (), generator=self.generator("start", step))
        number = int(order[place])
        return self.experts.segment(number, int(start), self.expert_epochs, like, self.device)

    def view(self, step: int, labels: Tensor) -> View:
        """Draw the batches that the student of a step sees, and how they are augmented.

        Args:
            step: Of the images.
            labels: Of all synthetic images, int64, on the device.
        """
        batches = draw_batches(
            len(labels), self.batch_syn, self.steps, self.generator("batches", step)
        )
        kinds = self.experts.kinds

        def seen(number: int, images: Tensor) -> tuple[Tensor, Tensor]:
            batch = batches[number]
            inputs, answers = images, labels
            if batch is not None:
                positions = batch.to(images.device)
                inputs, answers = images[positions], labels[positions]
            if not kinds:
                return inputs, answers
            height, width = inputs.shape[-2:]
            generator = self.generator("siamese", step, number)
            drawn = draw_siamese_batch(len(inputs), (height, width), kinds, generator)
            return augment_siamese(inputs, drawn.to(inputs.device)), answers

        return seen

    def match(self, network: nn.Module, segment: Segment, trained: Trained, view: View) -> Match:
        """Compare a student with an expert; methods differ in this.

        Args:
            network: The architecture of both.
            segment: Of the expert.
            trained: Images and step size.
            view: The batches of the student's steps.
        """
        return match_trajectory(
            network,
            segment,
            trained.pixels.images,
            trained.rate.value,
            view,
            range(self.steps),
            gradient=self.gradient,
        )

    def generator(self, *keys: int | str) -> torch.Generator:
        """Make the generator of one draw; methods of this family draw alike."""
        return generator_for(self.seed, "trajectories", *self.stage_keys, *keys)

    def continue_from(self, earlier: Earlier) -> None:
        """Record experts that have learnt from earlier stages; all ranks call it at once.

        They are recorded for as many epochs on real images as students are compared with, and kept in the output.
        """
        super().continue_from(earlier)
        self.experts = self.experts.continued(
            Beginning(earlier.fingerprint, self._teach, self.experts.transform()), self._last_epoch
        )
        named = {"beginning": earlier.fingerprint}
        folder = folder_of(self.experts, self.data, earlier.root, earlier.where, **named)
        self.experts.prepare(self.data, folder, earlier.where)

    def _teach(self, network: nn.Module, number: int) -> None:
        """Let an expert learn from earlier stages."""
        assert self.earlier is not None

        def generator(stage: int, what: str, epoch: int) -> torch.Generator:
            keys = ("experts", "warm", number, stage, what, epoch)
            return generator_for(self.experts.seed, *keys)

        with torch.enable_grad():
            self.earlier.teach(network, self.experts.kinds, generator)

    def learned_lr(self, info: Mapping[str, Any]) -> float | None:
        """Return the learned step size."""
        return float(info["step_size"])

    def later_stages(self, sizes: Sizes, earlier: int, warm_up: WarmUp) -> list[Stage]:
        """Train experts on the images of earlier stages, and then on real ones."""
        network = self.experts.network(sizes.num_classes, sizes.image_size)
        passes, batch = self.experts.count * warm_up.epochs * earlier, warm_up.batch_size
        arch, batch = self.experts.arch, min(batch, earlier)
        warm = training_stage("warm up experts", arch, network, sizes, passes, batch, moments=1)
        return [warm, *self.experts.with_arguments(epochs=self._last_epoch).workload(sizes)]

    def _shard(self, labels: Tensor, trained: Trained) -> Shard:
        """Make the shard of all classes, with losses and step size in the record."""
        trained.pixels.result()  # refuses images that have diverged
        curve = trained.curve()
        parts = curve.tensor_split(min(_CURVE, len(curve)))
        info = {
            "losses": [float(part.mean()) for part in parts],
            "step_size": float(trained.rate.value),
            **trained.pixels.info(),
        }
        fixed = trained.pixels.fixed
        return Shard(trained.average.value[fixed:].float().cpu(), labels[fixed:], info=info)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the learned step size, and how the loss went, as means over stretches of the optimisation."""
        (info,) = infos
        return {"loss": info["losses"][-1], **info}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Let students learn and go back through their training; a pass is an image in all steps of one of them."""
        images = sizes.num_classes * self.ipc
        batch = min(self.batch_syn or images, images)
        network = self.experts.network(sizes.num_classes, sizes.image_size)
        shape = (3, sizes.image_size, sizes.image_size)

        def run(copied: nn.Module, count: int, steps: int = self.steps) -> None:
            device = device_of(copied)
            weights = weights_of(copied)
            synthetic = torch.zeros(count, *shape, device=device)
            labels = torch.zeros(count, dtype=torch.int64, device=device)
            match_trajectory(
                copied,
                Segment(weights, {name: weight + 1 for name, weight in weights.items()}),
                synthetic,
                torch.tensor(0.01, device=device),
                lambda _, images: (images, labels),
                range(steps),
                gradient=self.gradient,
            )

        once = count_flops(lambda: run(on_meta(network), batch, 1))
        return [
            network_stage(
                "match trajectories",
                self.experts.arch,
                network,
                run,
                self.iterations * batch,
                batch,
                flops=round(once * self.steps * self.passes_of_a_step() / batch),
                files={"images": 4 * image_bytes(sizes, self.ipc)},
                note=f"{self.iterations:,} iterations of {self.steps} steps on {batch} images",
            )
        ]

    def passes_of_a_step(self) -> float:
        """Return how many trainings of a student a step of the images takes."""
        return 1.0


def draw_batches(
    count: int, size: int | None, steps: int, generator: torch.Generator
) -> Sequence[Tensor | None]:
    """Draw the batches of a student's steps: passes over all images, each in an order of its own.

    Args:
        count: Images in the set.
        size: Images a batch, the last of a pass may have fewer; None for all at once.
        steps: How many batches.
        generator: CPU generator.

    Returns:
        Positions of each step, int64; None stands for all images in their order.

    Example:
        >>> drawn = draw_batches(5, 2, 4, torch.Generator().manual_seed(0))
        >>> [len(batch) for batch in drawn], sorted(torch.cat(list(drawn[:3])).tolist())
        ([2, 2, 1, 2], [0, 1, 2, 3, 4])
    """
    if size is None:
        return [None] * steps
    batches: list[Tensor] = []
    while len(batches) < steps:
        batches += torch.randperm(count, generator=generator).split(size)
    return batches[:steps]
