"""Small methods on coloured noise that use one part of the contract each."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.shard import Shard, WorkItem, class_items
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.images import to_float, to_uint8
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_tensors
from ddoq.storage.folders import build_once


class KilledError(RuntimeError):
    """Stands in for a kill."""


class Descent(Distiller):
    """Moves noise towards the mean of its class by gradient descent with momentum and noisy targets."""

    method = "descent"
    needs_gradient = True

    def __init__(self, ipc: int, seed: int = 0, steps: int = 6) -> None:
        super().__init__(ipc, seed)
        self.steps = steps
        self.kill_at: dict[str, int] = {}  # step at which an item is killed
        self.steps_done: dict[str, int] = {}

    def work_items(self, data) -> list[WorkItem]:
        return class_items(data.num_classes)

    def start(self, item: WorkItem) -> tuple[Tensor, Tensor]:
        size = self.data.image_size
        generator = generator_for(self.seed, "start", *item.classes)
        pixels = torch.rand(self.ipc, 3, size, size, generator=generator)
        return pixels.requires_grad_(), torch.zeros_like(pixels)

    def target(self, item: WorkItem, step: int) -> Tensor:
        """Return the mean of a random half of a class."""
        positions = self.data.train.of_class(item.classes[0])
        generator = generator_for(self.seed, "batch", item.classes[0], step)
        chosen = positions[
            torch.randperm(len(positions), generator=generator)[: len(positions) // 2]
        ]
        return to_float(self.data.train.load(chosen.tolist())).mean(0)

    def advance(self, item: WorkItem, pixels: Tensor, momentum: Tensor, goal: Tensor) -> None:
        loss = ((pixels - goal) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, pixels)
        with torch.no_grad():
            momentum.mul_(0.9).add_(gradient)
            pixels.sub_(0.05 * momentum)
        self.steps_done[item.name] = self.steps_done.get(item.name, 0) + 1

    def distill(self, item: WorkItem) -> Shard:
        pixels, momentum = self.start(item)
        checkpoint = self.checkpoint(item)
        first = 0
        if (saved := checkpoint.load()) is not None:
            tensors, state = saved
            first = state["step"]
            with torch.no_grad():
                pixels.copy_(tensors["pixels"])
            momentum = tensors["momentum"]
        for step in range(first, self.steps):
            if self.kill_at.get(item.name) == step:
                raise KilledError(f"{item.name} at step {step}")
            self.advance(item, pixels, momentum, self.target(item, step))
            if checkpoint.due():
                checkpoint.save({"pixels": pixels, "momentum": momentum}, {"step": step + 1})
        return self.shard(item, pixels)

    def shard(self, item: WorkItem, pixels: Tensor) -> Shard:
        images = to_uint8(pixels.detach().clamp(0, 1))
        return Shard(images, torch.full((self.ipc,), item.classes[0]), {"pixels": pixels.detach()})


class JointDescent(Descent):
    """As its parent, but every class is also drawn to where all classes are on average."""

    method = "joint-descent"
    joint = True

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        parts = [self.start(item) for item in items]

        def restore(states: list[tuple[Tensor, Tensor]]) -> None:
            for (pixels, momentum), saved in zip(parts, states, strict=True):
                with torch.no_grad():
                    pixels.copy_(saved[0])
                momentum.copy_(saved[1])

        checkpoint = self.joint_checkpoint()
        for step in StepLoop(
            self.steps, state=lambda: list(parts), restore=restore, checkpoint=checkpoint
        ):
            for item in items:
                if self.kill_at.get(item.name) == step:
                    raise KilledError(f"{item.name} at step {step}")
            everything = self.all_gather_items([pixels for pixels, _ in parts])
            mean = torch.stack(everything).mean((0, 1))
            for item, (pixels, momentum) in zip(items, parts, strict=True):
                goal = 0.5 * (self.target(item, step) + mean)
                self.advance(item, pixels, momentum, goal)
        return [self.shard(item, pixels) for item, (pixels, _) in zip(items, parts, strict=True)]


class ClassMeans(Ingredient):
    """The mean image of each class, times a gain."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.folders: list[Path] = []
        self.where: Mapping[str, Any] = {}

    def check(self, data) -> None:
        if self.gain <= 0:
            raise UserError(f"gain must be above 0, not {self.gain}.")

    def prepare(self, data, folder, where) -> None:
        def build(target: Path) -> None:
            (target / f"built-by-{os.getpid()}").touch()
            parts = [data.train.load(data.train.of_class(c)) for c in range(data.num_classes)]
            means = torch.stack([part.float().mean(0) for part in parts])
            save_tensors(target / "means.safetensors", {"means": self.gain * means / 255}, {})

        build_once(folder, build)
        tensors, _ = load_tensors(folder / "means.safetensors")
        self.means = tensors["means"]
        self.folders.append(folder)
        self.where = where

    @property
    def fingerprint(self) -> str:
        return hash_tensors({"means": self.means})

    def facts(self) -> dict[str, Any]:
        return {"level": float(self.means.mean())}


class MeanImages(Descent):
    """Keeps the mean image of each class."""

    method = "mean-images"

    def __init__(self, ipc: int, means: ClassMeans, seed: int = 0) -> None:
        super().__init__(ipc, seed)
        self.means = means

    def distill(self, item) -> Shard:
        (label,) = item.classes
        images = to_uint8(self.means.means[label].clamp(0, 1))[None].repeat(self.ipc, 1, 1, 1)
        return Shard(images, torch.full((self.ipc,), label))


class Trivial(Wrapper):
    """Changes nothing."""

    method = "trivial"
