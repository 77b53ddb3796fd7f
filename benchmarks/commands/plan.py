"""The command ``ddoq-bench plan``: its options, and the plan of a configuration."""

import copy
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from benchmarks.commands.configured import configure
from benchmarks.planning.graphs import NOTES, GraphJob, plan_graphs
from benchmarks.planning.speed import Clock, Rate, find_rate
from benchmarks.planning.stages import Job, plan
from benchmarks.planning.text import plan_text
from benchmarks.run.bench import Bench
from benchmarks.run.graph_bench import GraphBench
from benchmarks.students.recipes import load_recipe
from benchmarks.transfer.running import control_of
from ddoq.costs.workload import Sizes
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.graphs.data import GraphDataModule


@dataclass
class PlanOptions:
    """What ``ddoq-bench plan`` is asked.

    Attributes:
        ipc: Images per class, several separated by commas; the configuration's own where omitted.
        device: A device of ``benchmarks/planning/rates.yaml``, for hours.
        precision: What it computes in, bf16, fp16 or fp32; that of ``trainer.precision`` where omitted.
        utilisation: Share of the device's peak rate that a run sustains; that of the file where omitted.
        probe: Run some batches of each stage's network here, and reckon hours from that.
        classes: Number of classes, to plan without the dataset.
        images_per_class: Training images a class, to plan without the dataset.
        test_images: Test images, to plan without the dataset; none where omitted.
    """

    ipc: str | None = None
    device: str | None = None
    precision: str | None = None
    utilisation: float | None = None
    probe: bool = False
    classes: int | None = None
    images_per_class: int | None = None
    test_images: int = 0

    def budgets(self, configured: int) -> list[int]:
        """Return the budgets to plan for.

        Example:
            >>> PlanOptions(ipc="10,50").budgets(1)
            [10, 50]
        """
        if self.ipc is None:
            return [configured]
        try:
            budgets = [int(part) for part in self.ipc.split(",")]
        except ValueError:
            budgets = [0]
        if min(budgets) < 1:
            raise UserError(
                f"--ipc must be whole numbers from 1 on, such as 10,50, not {self.ipc!r}."
            )
        return budgets

    def rate(self, precision: str) -> Rate | None:
        """Return the rate of the device; None where none is asked for.

        Args:
            precision: ``trainer.precision``, where the options name none.

        Raises:
            UserError: If device or precision are unknown, or the utilisation is no share.
        """
        if self.device is None:
            return None
        return find_rate(self.device, self.precision or precision, self.utilisation)


_HELP = {
    "ipc": "Images per class to plan for, several separated by commas.",
    "device": "Device of benchmarks/planning/rates.yaml whose rates give hours.",
    "precision": "bf16, fp16 or fp32, instead of trainer.precision.",
    "utilisation": "Share of the peak rate that is sustained.",
    "probe": "Measure some batches of each network here.",
    "classes": "Number of classes; plans without the dataset.",
    "images_per_class": "Training images a class; plans without the dataset.",
    "test_images": "Test images, where the dataset is not at hand.",
}


def add_plan_arguments(parser: Any) -> None:
    """Add the options of the command to its parser."""
    for item in fields(PlanOptions):
        name = "--" + item.name.replace("_", "-")
        parser.add_argument(name, type=item.type, default=item.default, help=_HELP[item.name])


def sizes_of(bench: Bench, options: PlanOptions) -> Sizes:
    """Take the sizes of the dataset from the options, or else from the dataset itself.

    Raises:
        UserError: If only one of the two numbers is given, or one is below 1.
    """
    classes, images, data = options.classes, options.images_per_class, bench.data
    if classes is None and images is None:
        return Sizes.of(bench.dataset)
    if classes is None or images is None:
        raise UserError("Give --classes and --images-per-class together, or neither.")
    if min(classes, images) < 1 or options.test_images < 0:
        raise UserError(
            "--classes and --images-per-class must be at least 1, and --test-images at least 0."
        )
    return Sizes(
        classes,
        classes * images,
        options.test_images,
        data.image_size,
        images,
        data.mean,
        data.std,
    )


def _with_ipc(method: Distiller[Any], ipc: int) -> Distiller[Any]:
    if "ipc" in method.arguments:
        return method.with_arguments(ipc=ipc)
    method = copy.copy(method)  # one without a budget of its own: all images
    method.ipc = ipc
    return method


def plan_bench(bench: Bench, options: PlanOptions) -> str:
    """Plan a configuration.

    Args:
        bench: Its parts.
        options: What is asked.

    Returns:
        Markdown.

    Raises:
        UserError: If there is no method, or options do not fit.
    """
    if bench.distiller is None:
        raise UserError("No method is configured: give the key `model`.")
    recipe = load_recipe(bench.recipe.name, bench.recipe.overrides)
    sizes = sizes_of(bench, options)
    clock = Clock(bench.trainer.strategy.root_device) if options.probe else None
    speed = clock or options.rate(bench.trainer_settings["precision"])
    method = bench.distiller
    job = Job(
        sizes,
        method,
        bench.prior_source,
        bench.teacher_source,
        bench.students,
        len(bench.seeds),
        recipe,
        clock.device if clock else None,
        bench.evaluation.transfer if control_of(method) is not None else None,
    )
    plans = {
        ipc: plan(replace(job, distiller=at_budget(_with_ipc(method, ipc), sizes.num_classes)))
        for ipc in options.budgets(method.ipc)
    }
    name = bench.data.name if options.classes is None else "a dataset of given sizes"
    how = "transfer" if job.transfer else f"recipe {recipe.label}"
    head = (
        f"### {bench.distiller.method} on {name}\n\n{sizes.train_images:,} training images of "
        f"{sizes.num_classes:,} classes, {sizes.test_images:,} test images, {sizes.image_size} pixels, {how}"
    )
    return f"{head}\n\n{plan_text(plans, speed)}"


def plan_graph_bench(bench: GraphBench, options: PlanOptions) -> str:
    """Plan a configuration whose dataset holds graphs.

    Args:
        bench: Its parts.
        options: What is asked.

    Returns:
        Markdown.

    Raises:
        UserError: If there is no method, or options do not fit.
    """
    if bench.distiller is None:
        raise UserError("No method is configured: give the key `model`.")
    if (options.classes, options.images_per_class, options.test_images) != (None, None, 0):
        raise UserError(
            "A plan for graphs is counted on those of the dataset: leave out --classes, --images-per-class and --test-images."
        )
    data, method = bench.dataset, bench.distiller
    if not isinstance(data, GraphDataModule):
        raise UserError(
            f"`ddoq-bench plan` counts images and graphs, but {data.name} holds {data.holds}."
        )
    bench.check_evaluation()
    clock = Clock(bench.trainer.strategy.root_device) if options.probe else None
    speed = clock or options.rate("32-true")
    device = clock.device if clock else torch.device("cpu")
    job = GraphJob(data, method, bench.students, len(bench.seeds), bench.evaluation.graphs, device)
    plans = {
        ipc: plan_graphs(
            replace(job, distiller=at_budget(_with_ipc(method, ipc), data.num_classes))
        )
        for ipc in options.budgets(method.ipc)
    }
    head = (
        f"### {method.method} on {data.name}\n\n{len(data.train):,} training graphs of {data.num_classes:,} classes, "
        f"{len(data.val):,} validation graphs, {len(data.test):,} test graphs, {data.mean_nodes:,} nodes of "
        f"{data.num_features:,} features on average"
    )
    return f"{head}\n\n{plan_text(plans, speed, holds='graphs', remarks=NOTES)}"


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench plan``.

    Args:
        name: The command.
        arguments: Its options.

    Returns:
        0.

    Raises:
        UserError: For every mistake in the configuration.
    """
    cli = configure(name, arguments, add_plan_arguments)
    options = {item.name: cli.config[item.name] for item in fields(PlanOptions)}
    given = PlanOptions(**options)
    text = (
        plan_graph_bench(cli.bench_of_graphs(), given)
        if cli.on_graphs
        else plan_bench(cli.bench(), given)
    )
    print(text)
    return 0
