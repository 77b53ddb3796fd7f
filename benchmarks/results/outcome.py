"""What one training of a student came to."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    """What one training of a student came to.

    Attributes:
        top1_last: Accuracy on the real test set after the last epoch, in [0, 1]: the headline.
        top1_best: The highest accuracy of the curve: chosen on the test set, so for comparison only.
        top5_last: As ``top1_last``, for the true class among the five likeliest (or all, if fewer).
        top5_best: ``top5`` at ``best_epoch``.
        best_epoch: Completed epochs at ``top1_best``; the earliest.
        curve: One entry per evaluation; see :class:`benchmarks.students.module.StudentModule`.
        seconds: Wall-clock time of training and testing.
        params: Parameters of the student.
        steps: Optimiser steps.
        effective_batch: Images per step: the recipe's batch, or the whole set if that is smaller.
        world_size: Number of ranks that trained it.
        sync_batchnorm: Whether the statistics of batch normalisation were taken over all ranks; False where each rank
            normalised its own share of a batch, None on one rank and for a student without batch normalisation.
        global_batch: Images per step over all ranks; equal to ``effective_batch``, since ranks share a batch.
        epochs: Passes over the set: the recipe's number for a set of this size.
        flops: Floating-point operations of the student's training, forward and backward of every image seen, over all
            ranks; two a multiply-add, see :mod:`ddoq.costs.flops`.
        test_flops: Of all its evaluations on the test set.
        teacher_flops: Of the teacher that labelled the images in the course of the training; 0 where it did not.
        label_bytes: Bytes of the files that hold its labels; 0 where labels are not stored.
        teacher_bytes: Bytes of the teacher's parameters and buffers where it labels online; 0 elsewhere.
    """

    top1_last: float
    top1_best: float
    top5_last: float
    top5_best: float
    best_epoch: int
    curve: list[dict[str, Any]]
    seconds: float
    params: int
    steps: int
    effective_batch: int
    world_size: int
    global_batch: int
    epochs: int
    flops: int | None = None
    test_flops: int | None = None
    teacher_flops: int | None = None
    label_bytes: int = 0
    teacher_bytes: int = 0
    sync_batchnorm: bool | None = None
