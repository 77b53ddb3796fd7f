"""Every scheduler that diffusers exports: it gives what diffusers gives, or it is refused by its name."""

import json

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionImg2ImgPipeline
from tiny_pipelines import build_stable_diffusion

from ddoq.costs.workload import Sizes
from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior, PretrainedPrior, Sampling, StableDiffusionPrior
from ddoq.priors.schedulers import (
    OWN_SCHEDULES,
    SCHEDULERS,
    check_variance,
    make_scheduler,
    scheduler_label,
)
from ddoq.seeding import generator_for

SAMPLING = Sampling(strength=0.7, guidance_scale=3.0, num_inference_steps=8)
NAMES = [name for name in dir(diffusers) if name.endswith("Scheduler") and name[:4] != "Flax"]
GOOD = [*SCHEDULERS, *OWN_SCHEDULES]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return build_stable_diffusion(tmp_path_factory.mktemp("schedulers") / "tokenizer")


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory, pipeline):
    """A saved pipeline whose scheduler a test names; betas and all else stay those of PNDM."""
    folder = tmp_path_factory.mktemp("schedulers") / "pipeline"
    pipeline.save_pretrained(folder)
    index, path = json.loads((folder / "model_index.json").read_text()), folder / "scheduler"
    config = json.loads((path / "scheduler_config.json").read_text())

    def write(name, **changes):
        index["scheduler"] = ["diffusers", name]
        (folder / "model_index.json").write_text(json.dumps(index))
        changed = {**config, "_class_name": name, **changes}
        changed = {key: value for key, value in changed.items() if value != "left out"}
        (path / "scheduler_config.json").write_text(json.dumps(changed))
        return folder

    return write


def with_scheduler(pipeline, scheduler):
    made = StableDiffusionImg2ImgPipeline(
        **{**pipeline.components, "scheduler": scheduler}, requires_safety_checker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


def generators(count=2, start=0):
    return [generator_for(7, "noise", start + k) for k in range(count)]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_one_gives_what_diffusers_gives_image_by_image(pipeline, name):
    kind = getattr(diffusers, name)
    config = {**pipeline.scheduler.config, "clip_sample": False}
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    reference = with_scheduler(pipeline, kind.from_config(config))
    expected = reference(
        prompt=["cat", "dog"],
        image=latents,
        strength=SAMPLING.strength,
        guidance_scale=SAMPLING.guidance_scale,
        num_inference_steps=SAMPLING.num_inference_steps,
        generator=generators(),
        output_type="pt",
    ).images
    prior = StableDiffusionPrior(with_scheduler(pipeline, kind.from_config(config)), ["cat", "dog"])
    ids = torch.tensor([0, 1])
    together = prior.generate(latents, ids, generators=generators(), sampling=SAMPLING)
    alone = prior.generate(latents[1:], ids[1:], generators=generators(1, 1), sampling=SAMPLING)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone[0], together[1], atol=1e-4, rtol=0)
    assert together.std() > 0.01


def test_the_lists_hold_schedulers_of_diffusers_alone():
    assert len(NAMES) > 40
    assert set(GOOD) <= set(NAMES)
    assert not set(SCHEDULERS) & set(OWN_SCHEDULES)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(GOOD)))
def test_every_other_is_refused_by_its_name(stable_diffusion, name):
    folder = stable_diffusion(name)
    with pytest.raises(UserError) as refusal:
        StableDiffusionPrior.from_pretrained(folder, prompts=["cat"])
    assert f"{folder}: scheduler/scheduler_config.json names {name}" in str(refusal.value)
    assert f"prior.init_args.scheduler: {', '.join(SCHEDULERS)}" in str(refusal.value)
    with pytest.raises(UserError, match=f"{name} cannot be used"):
        make_scheduler(name, DDIMScheduler().config)


def test_another_scheduler_stands_for_one_that_is_refused(stable_diffusion):
    for name in ("RePaintScheduler", "DDIMInverseScheduler", "PNDMScheduler"):
        prior = StableDiffusionPrior.from_pretrained(
            stable_diffusion(name), prompts=["cat"], scheduler="DDIMScheduler"
        )
        assert type(prior.scheduler) is DDIMScheduler
        assert prior.scheduler.config.beta_start == 0.00085
        assert not prior.scheduler.config.clip_sample


def test_a_model_of_another_process_has_no_betas_to_hand_on(stable_diffusion):
    folder = stable_diffusion("FlowMatchEulerDiscreteScheduler", beta_schedule="left out")
    with pytest.raises(UserError, match="The model was trained for it; take one that was trained"):
        StableDiffusionPrior.from_pretrained(folder, prompts=["cat"])
    with pytest.raises(UserError, match=r"DDIMScheduler cannot stand for FlowMatchEuler.*no betas"):
        StableDiffusionPrior.from_pretrained(folder, prompts=["cat"], scheduler="DDIMScheduler")


def test_plan_refuses_them_too(stable_diffusion):
    source = PretrainedPrior(str(stable_diffusion("IPNDMScheduler")))
    sizes = Sizes(2, 8, 4, 16, 4, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match="names IPNDMScheduler"):
        source.workload(sizes)
    with pytest.raises(UserError, match=r"Unknown prior scheduler 'DDIM'\. Valid: DDIMPar"):
        PretrainedPrior("anywhere", scheduler="DDIM")


def test_one_takes_over_the_noise_schedule_of_another():
    base = DDIMScheduler(beta_schedule="scaled_linear", beta_end=0.012)
    for name in SCHEDULERS:
        made = make_scheduler(name, base.config)
        torch.testing.assert_close(made.alphas_cumprod, base.alphas_cumprod)
    defaults = make_scheduler("HeunDiscreteScheduler", DDIMScheduler().config)
    assert defaults.config.beta_start == 0.0001, "Heun's own default is another one"


@pytest.mark.parametrize(
    ("name", "base", "message"),
    [
        (
            "PNDMScheduler",
            DDIMScheduler(rescale_betas_zero_snr=True),
            "not follow the noise schedule of",
        ),
        ("DDIMScheduler", DDPMScheduler(beta_schedule="sigmoid"), "cannot stand for .*sigmoid"),
        ("EDMEulerScheduler", DDIMScheduler(), "EDMEulerScheduler cannot be used"),
        ("DDIMSchedulr", DDIMScheduler(), r"Unknown prior scheduler.*Did you mean 'DDIMScheduler'"),
        ("Scheduler", DDIMScheduler(), "Unknown prior scheduler"),
        ("AutoencoderKL", DDIMScheduler(), "Unknown prior scheduler"),
    ],
)
def test_one_that_cannot_take_it_over_is_refused(name, base, message):
    with pytest.raises(UserError, match=message):
        make_scheduler(name, base.config)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDPMParallelScheduler"])
def test_a_learned_variance_needs_a_network_that_learned_it(tmp_path, make_pipeline, name):
    kind = getattr(diffusers, name)
    for learned in (False, True):
        pipeline = make_pipeline(learned_sigma=learned)
        pipeline.scheduler = kind(variance_type="learned_range", clip_sample=False)
        pipeline.save_pretrained(tmp_path / str(learned))
    with pytest.raises(
        UserError, match=r"scheduler_config\.json asks for a learned variance.*fixed"
    ):
        DiffusionPrior.from_pretrained(tmp_path / "False")
    for folder, changes in (("True", {}), ("False", {"scheduler": "DDIMScheduler"})):
        prior = DiffusionPrior.from_pretrained(tmp_path / folder, **changes)
        images = prior.generate(
            torch.zeros(1, 2, 4, 4),
            torch.tensor([0]),
            generators=generators(1),
            sampling=SAMPLING,
        )
        assert torch.isfinite(images).all()


def test_a_solver_that_reads_variance_as_colours():
    learned = DDPMScheduler(variance_type="learned_range").config
    made = make_scheduler("DPMSolverMultistepScheduler", learned)
    assert made.config.variance_type is None
    scheduler = diffusers.DPMSolverMultistepScheduler(variance_type="learned")
    with pytest.raises(UserError, match="DPMSolverMultistepScheduler has no use for it"):
        check_variance(scheduler, True, "here")


def test_more_steps_than_a_distilled_scheduler_knows(stable_diffusion):
    prior = StableDiffusionPrior.from_pretrained(stable_diffusion("TCDScheduler"), prompts=["cat"])
    with pytest.raises(UserError, match="num_inference_steps is 60, which TCDScheduler refuses"):
        prior.sample(
            torch.tensor([0]), generators=generators(1), sampling=Sampling(num_inference_steps=60)
        )


def test_fingerprints_tell_that_tcd_draws_nothing():
    labels = {name: scheduler_label(getattr(diffusers, name)()) for name in SCHEDULERS}
    assert labels.pop("TCDScheduler") == "TCDScheduler eta=0"
    assert all(label == name for name, label in labels.items())
