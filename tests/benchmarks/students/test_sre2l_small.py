"""SRe2L's students on CIFAR-100 and Tiny-ImageNet against plain loops of torch and torchvision."""

import copy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torchvision.transforms.v2 import functional as tv

from benchmarks.students.batches import EpochPositions
from benchmarks.students.module import StudentModule
from benchmarks.students.recipes import load_recipe
from benchmarks.students.training_set import TrainingSet
from ddoq.augmentation.epochs import draw_epoch
from ddoq.distillation.distilled_set import DistilledSet

N, SIDE, SEED = 12, 12, 3
# Larger than theirs, so that a few steps show what decays; test_recipes.py holds their own numbers.
DECAYS = {"sre2l_cifar": 5.0, "sre2l_tiny": 0.05}


def make_set() -> DistilledSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return DistilledSet(images, torch.arange(N) % 3, torch.ones(N), ["a", "b", "c"])


def convnet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3)
    )
    network[1].running_mean.fill_(0.3)  # unlike what any batch has
    return network


def train(recipe, teacher: nn.Module, student: nn.Module) -> StudentModule:
    module = StudentModule(
        student,
        TrainingSet.of(make_set(), recipe),
        num_classes=3,
        lr=recipe.lr,
        seed=SEED,
        teacher=teacher,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=recipe.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    return module


def batches(epoch: int, size: int) -> list[torch.Tensor]:
    positions = EpochPositions(N, size, seed=SEED)
    positions.epoch = epoch
    return list(positions)


def hold_equal(network: nn.Module, reference: nn.Module) -> None:
    ours, plain = network.state_dict(), reference.state_dict()
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-3, atol=2e-5)


def shifted(epoch, image: int) -> torch.Tensor:
    """Crop a padded image and mirror it, by torchvision."""
    pixels = make_set().images[image].float() / 255
    top, left = (epoch.shifts[image] + 4).tolist()
    pixels = tv.crop(tv.pad(pixels, [4, 4, 4, 4]), top, left, SIDE, SIDE)
    return tv.horizontal_flip(pixels) if epoch.flips[image] else pixels


def test_cifar_equals_a_plain_loop():
    decay = DECAYS["sre2l_cifar"]
    recipe = load_recipe("sre2l_cifar", {"epochs": 2, "batch_size": 6, "weight_decay": decay})
    teacher, student, reference = convnet(1), convnet(0), convnet(0)
    remembered = copy.deepcopy(teacher.state_dict())
    never_eval = copy.deepcopy(teacher).train()
    module = train(recipe, teacher, student)

    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.001, weight_decay=decay)
    schedule = CosineAnnealingLR(optimizer, T_max=2)
    for number in range(2):
        together = batches(number, 6)
        drawn = draw_epoch(
            N,
            (SIDE, SIDE),
            seed=SEED,
            epoch=number,
            flip=True,
            pad_crop=4,
            mixup_alpha=0.8,
            batches=together,
        )
        for batch in together:
            assert len(drawn.lam[batch].unique()) == 1
            assert sorted(drawn.partners[batch].tolist()) == sorted(batch.tolist())
            one, two = (
                torch.stack([shifted(drawn, i) for i in which.tolist()])
                for which in (batch, drawn.partners[batch])
            )
            lam = drawn.lam[batch[0]]
            mixed = lam * one + (1 - lam) * two
            soft = F.softmax(never_eval(mixed).detach() / 30, dim=1)
            said = F.log_softmax(reference.train()(mixed) / 30, dim=1)
            optimizer.zero_grad()
            F.kl_div(said, soft, reduction="batchmean").backward()
            optimizer.step()
        schedule.step()
    hold_equal(module.network, reference)
    # What the teacher remembers is as it was, and it answers as before.
    assert all(torch.equal(value, remembered[name]) for name, value in teacher.state_dict().items())
    assert not any(layer.training for layer in teacher.modules())
    assert teacher[1].track_running_stats


def test_tiny_equals_a_plain_loop():
    decay = DECAYS["sre2l_tiny"]
    recipe = load_recipe("sre2l_tiny", {"epochs": 8, "weight_decay": decay})
    teacher, reference = convnet(1), convnet(0)
    module = train(recipe, teacher, convnet(0))

    optimizer = torch.optim.SGD(reference.parameters(), lr=0.2, momentum=0.9, weight_decay=decay)
    rising = LinearLR(optimizer, start_factor=0.01, total_iters=5)
    falling = CosineAnnealingLR(optimizer, T_max=8 - 5)
    schedule = SequentialLR(optimizer, [rising, falling], milestones=[5])
    teacher.eval()
    for number in range(8):
        drawn = draw_epoch(
            N, (SIDE, SIDE), seed=SEED, epoch=number, crop_scale=(0.08, 1.0), flip=True
        )
        for batch in batches(number, N):
            seen = []
            for i in batch.tolist():
                box = drawn.crops[i].tolist()
                pixels = tv.resized_crop(make_set().images[i].float() / 255, *box, [SIDE, SIDE])
                seen.append(tv.horizontal_flip(pixels) if drawn.flips[i] else pixels)
            images = torch.stack(seen)
            soft = F.log_softmax(teacher(images).detach() / 20, dim=1)
            said = F.log_softmax(reference.train()(images) / 20, dim=1)
            optimizer.zero_grad()
            (F.kl_div(said, soft, reduction="batchmean", log_target=True) * 20**2).backward()
            optimizer.step()
        schedule.step()
    hold_equal(module.network, reference)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rank_labels_by_the_statistics_of_the_whole_batch(ranks):
    recipe = load_recipe("sre2l_cifar", {"epochs": 1})
    module = train(recipe, convnet(1), nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 3)))
    batch = torch.tensor([4, 0, 11, 7, 2, 5])
    whole = module.sample_losses(batch)
    for rank in range(ranks):
        share = slice(rank, None, ranks)
        torch.testing.assert_close(module.sample_losses(batch, share), whole[share])
    # By statistics of a share alone the labels would be others.
    alone = module.sample_losses(batch[::ranks])
    assert (alone - whole[::ranks]).abs().max() > 1e-4 * whole.max()


def test_dropout_of_the_teacher_stays_off():
    recipe = load_recipe("sre2l_cifar", {"epochs": 1})
    teacher = nn.Sequential(convnet(1), nn.Dropout(0.5))
    module = train(recipe, teacher, convnet(0))
    batch, images = torch.arange(N), torch.rand(N, 3, SIDE, SIDE)
    first, second = (module._batch_logits(images, batch, slice(None)) for _ in range(2))
    assert torch.equal(first, second)
    assert not (first == 0).any()
