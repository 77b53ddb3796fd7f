"""The prior against diffusers' own pipeline and against a loop that is written out one image at a time."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTPipeline

from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.priors import DiffusionPrior, PretrainedPrior, Sampling
from ddoq.seeding import generator_for

SAMPLING = Sampling(strength=0.7, guidance_scale=3.0, num_inference_steps=10)


def generators(n, start=0):
    return [generator_for(7, "noise", start + k) for k in range(n)]


@pytest.fixture
def latents():
    return torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def prior(tiny_folder):
    return DiffusionPrior.from_pretrained(tiny_folder)


IDS = torch.tensor([0, 3, 4, 1])


@pytest.mark.parametrize("learned_sigma", [False, True])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sampling_from_noise_equals_diffusers(make_pipeline, learned_sigma, guidance):
    # diffusers writes the null class as 1000, so that its pipeline needs a table of 1000 classes.
    pipeline = make_pipeline(classes=1000, learned_sigma=learned_sigma)
    pipeline.set_progress_bar_config(disable=True)
    labels = [3, 999, 0]
    expected = pipeline(
        labels,
        guidance_scale=guidance,
        generator=generators(3),
        num_inference_steps=6,
        output_type="pt",
    ).images
    actual = DiffusionPrior(pipeline).sample(
        torch.tensor(labels),
        generators=generators(3),
        sampling=Sampling(guidance_scale=guidance, num_inference_steps=6),
    )
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def written_out(pipeline, latent, label, generator, strength, guidance, steps):
    """DDIM (Song et al. 2021, eq. 12 without noise) for one image, from the formula."""
    dit, alphas = pipeline.transformer, pipeline.scheduler.alphas_cumprod
    stride = 1000 // steps
    times = [i * stride + 1 for i in reversed(range(steps))]  # steps_offset is 1
    times = times[steps - int(steps * strength) :]
    noise = torch.randn(1, 2, 4, 4, generator=generator)
    z = alphas[times[0]].sqrt() * latent + (1 - alphas[times[0]]).sqrt() * noise
    for t in times:
        both = []
        for number in (label, 5):
            out = dit(z, timestep=torch.tensor([t]), class_labels=torch.tensor([number])).sample
            both.append(out[:, :2])
        eps = both[1] + guidance * (both[0] - both[1])
        before = alphas[t - stride] if t - stride >= 0 else torch.tensor(1.0)
        clean = (z - (1 - alphas[t]).sqrt() * eps) / alphas[t].sqrt()
        z = before.sqrt() * clean + (1 - before).sqrt() * eps
    return (pipeline.vae.decode(z / 0.7).sample / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("strength", [0.25, 0.7, 1.0])
@torch.no_grad()
def test_strength_equals_a_written_out_loop(prior, tiny_folder, latents, strength):
    pipeline = DiTPipeline.from_pretrained(tiny_folder, low_cpu_mem_usage=False)
    expected = [
        written_out(pipeline, latents[k : k + 1], int(IDS[k]), generators(4)[k], strength, 3.0, 10)
        for k in range(4)
    ]
    actual = prior.generate(
        latents, IDS, generators=generators(4), sampling=Sampling(strength, 3.0, 10)
    )
    torch.testing.assert_close(actual, torch.cat(expected), atol=1e-4, rtol=0)


SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "PNDMScheduler",
]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_images_depend_neither_on_batch_nor_on_order(tiny_folder, latents, name):
    prior = DiffusionPrior.from_pretrained(tiny_folder, scheduler=name)
    assert type(prior.scheduler).__name__ == name
    together = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    again = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    torch.testing.assert_close(together, again, atol=0, rtol=0)
    for k in (2, 0):
        alone = prior.generate(
            latents[k : k + 1], IDS[k : k + 1], generators=generators(1, k), sampling=SAMPLING
        )
        torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=0)
    flipped = prior.generate(
        latents.flip(0), IDS.flip(0), generators=generators(4)[::-1], sampling=SAMPLING
    )
    torch.testing.assert_close(flipped.flip(0), together, atol=1e-4, rtol=0)
    assert together.std() > 0.01


def test_solvers_agree_with_many_steps(tiny_folder, latents):
    fine = Sampling(0.5, 2.0, 200)
    ddim, dpm = (
        DiffusionPrior.from_pretrained(tiny_folder, scheduler=name).generate(
            latents, IDS, generators=generators(4), sampling=fine
        )
        for name in ("DDIMScheduler", "DPMSolverMultistepScheduler")
    )
    other = DiffusionPrior.from_pretrained(tiny_folder).generate(
        latents, IDS, generators=generators(4, start=4), sampling=fine
    )
    assert (ddim - dpm).abs().mean() < 0.3 * (ddim - other).abs().mean()


def test_guidance_one_uses_the_condition_alone(prior, latents):
    sizes = []
    handle = prior.transformer.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    plain = Sampling(0.5, 1.0, 6)
    one = prior.generate(latents, IDS, generators=generators(4), sampling=plain)
    assert sizes == [4, 4, 4]
    guided = prior.generate(latents, IDS, generators=generators(4), sampling=Sampling(0.5, 2.0, 6))
    handle.remove()
    assert sizes[3:] == [8, 8, 8]
    assert not torch.allclose(one, guided, atol=1e-4)
    # The null class must not enter at guidance 1.
    for block in prior.transformer.transformer_blocks:
        block.norm1.emb.class_embedder.embedding_table.weight[5] = 100.0
    other = prior.generate(latents, IDS, generators=generators(4), sampling=plain)
    torch.testing.assert_close(one, other)


def test_scheduler_with_learned_variance_gets_it(make_pipeline, latents):
    pipeline = make_pipeline(learned_sigma=True)
    fixed = DiffusionPrior(pipeline)
    fixed.scheduler = DDPMScheduler(clip_sample=False)
    learned = DiffusionPrior(pipeline)
    learned.scheduler = DDPMScheduler(clip_sample=False, variance_type="learned_range")
    results = [
        prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
        for prior in (fixed, learned)
    ]
    assert not torch.allclose(*results, atol=1e-4)
    assert all(torch.isfinite(r).all() for r in results)


def test_encode_and_decode_scale_and_shift(make_pipeline):
    pipeline = make_pipeline(scaling_factor=0.5, shift_factor=0.3)
    prior = DiffusionPrior(pipeline)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    posterior = pipeline.vae.encode(images * 2 - 1).latent_dist
    latents = prior.encode(images)
    torch.testing.assert_close(latents, (posterior.mean - 0.3) * 0.5)
    expected = (pipeline.vae.decode(posterior.mean).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.decode(latents), expected, atol=1e-5, rtol=0)
    drawn = prior.encode(images, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, (posterior.mean + posterior.std * noise - 0.3) * 0.5)


def test_images_of_another_size_are_resized(prior):
    assert prior.encode(torch.rand(2, 3, 20, 16)).shape == (2, *prior.latent_shape)
    assert prior.latent_shape == (2, 4, 4)
    assert prior.image_size == 8


def test_bfloat16_gives_float32_images_near_those_of_float32(tiny_folder, prior, latents):
    half = DiffusionPrior.from_pretrained(tiny_folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    images = half.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    exact = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    assert images.dtype == half.encode(images).dtype == torch.float32
    assert (images - exact).abs().mean() < 0.05
    assert half.fingerprint != prior.fingerprint


def test_stays_in_evaluation_mode(prior, latents):
    before = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    torch.nn.Sequential(prior).train()
    assert not any(module.training for module in prior.modules())
    after = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    torch.testing.assert_close(before, after, atol=0, rtol=0)
    assert not after.requires_grad


def test_global_random_state_is_neither_read_nor_changed(prior, latents):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    second = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_classes_of_a_part_of_what_the_prior_knows(tiny_folder, prior, latents):
    part = DiffusionPrior.from_pretrained(tiny_folder, classes=[4, 1])
    assert part.num_classes == 2
    assert part.fingerprint != prior.fingerprint
    mapped = part.generate(
        latents[:2], torch.tensor([0, 1]), generators=generators(2), sampling=SAMPLING
    )
    direct = prior.generate(
        latents[:2], torch.tensor([4, 1]), generators=generators(2), sampling=SAMPLING
    )
    torch.testing.assert_close(mapped, direct)
    with pytest.raises(UserError, match=r"0\.\.4"):
        DiffusionPrior.from_pretrained(tiny_folder, classes=[5])


def test_round_trip_keeps_images_and_fingerprint(prior, latents, tmp_path):
    prior.names = {0: "zero", 1: "one"}
    prior.save(tmp_path / "saved")
    loaded = DiffusionPrior.from_pretrained(tmp_path / "saved")
    assert loaded.fingerprint == prior.fingerprint
    torch.testing.assert_close(
        loaded.generate(latents, IDS, generators=generators(4), sampling=SAMPLING),
        prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING),
    )
    pipeline = DiTPipeline.from_pretrained(tmp_path / "saved", low_cpu_mem_usage=False)
    assert pipeline.get_label_ids(["one"]) == [1]
    assert isinstance(pipeline.scheduler, DDIMScheduler)


def test_fingerprint_follows_weights_and_configuration(make_pipeline):
    prints = [
        DiffusionPrior(make_pipeline()).fingerprint,
        DiffusionPrior(make_pipeline(seed=1)).fingerprint,
        DiffusionPrior(make_pipeline(scaling_factor=0.8)).fingerprint,
    ]
    pipeline = make_pipeline()
    pipeline.scheduler = DDPMScheduler()
    prints.append(DiffusionPrior(pipeline).fingerprint)
    assert len(set(prints)) == 4
    assert prints[0] == DiffusionPrior(make_pipeline()).fingerprint


@pytest.mark.parametrize(
    ("ids", "count", "shape", "message"),
    [
        ([0, 5], 2, (2, 2, 4, 4), r"0\.\.4"),
        ([0, -1], 2, (2, 2, 4, 4), r"0\.\.4"),
        ([0], 2, (2, 2, 4, 4), "2 integers"),
        ([0, 1], 1, (2, 2, 4, 4), "2 generators"),
        ([0, 1], 2, (2, 4, 4, 4), r"\(n, 2, 4, 4\)"),
        ([0, 1], 2, (2, 32), r"\(n, 2, 4, 4\)"),
    ],
)
def test_bad_input_is_refused(prior, ids, count, shape, message):
    with pytest.raises(UserError, match=message):
        prior.generate(
            torch.zeros(shape), torch.tensor(ids), generators=generators(count), sampling=SAMPLING
        )


def test_strength_that_runs_no_step_is_refused(prior, latents):
    with pytest.raises(UserError, match="leaves none"):
        prior.generate(latents, IDS, generators=generators(4), sampling=Sampling(0.05, 1.0, 10))


def test_more_steps_than_the_schedule_has_are_refused(prior):
    with pytest.raises(UserError, match="at most 1000"):
        prior.sample(
            torch.tensor([0]),
            generators=generators(1),
            sampling=Sampling(num_inference_steps=1001),
        )


def test_encoding_other_than_float_images_is_refused(prior):
    with pytest.raises(UserError, match="uint8"):
        prior.encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_forgotten_scaling_factor_is_noticed(make_pipeline):
    pipeline = make_pipeline(scaling_factor=1.0)
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    raw = pipeline.vae.encode(images * 2 - 1).latent_dist.mean.std().detach()
    pipeline.vae.requires_grad_(False).quant_conv.weight.div_(raw)
    DiffusionPrior(pipeline).encode(images)  # a standard deviation near 1 is fine
    pipeline.vae.quant_conv.weight.mul_(50)
    with pytest.raises(UserError, match="scaling_factor"):
        DiffusionPrior(pipeline).encode(images)


def test_scaling_factor_that_config_lacks_is_asked_for(make_pipeline, tmp_path):
    pipeline = make_pipeline(scaling_factor=0.7)
    pipeline.vae.requires_grad_(False).quant_conv.weight.mul_(1000)
    pipeline.save_pretrained(tmp_path / "bare")
    path = tmp_path / "bare/vae/config.json"
    config = json.loads(path.read_text())
    del config["scaling_factor"]
    path.write_text(json.dumps(config))
    prior = DiffusionPrior.from_pretrained(tmp_path / "bare")
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    words = r"bare: vae/config\.json has no scaling_factor \(so that 0\.18215 was taken\).*about"
    with pytest.raises(UserError, match=words) as caught:
        prior.encode(images)
    # The proposed value gives a deviation of 1.
    config["scaling_factor"] = float(str(caught.value).split("Set it to about ")[1].split(",")[0])
    path.write_text(json.dumps(config))
    mended = DiffusionPrior.from_pretrained(tmp_path / "bare").encode(images)
    assert float(mended.std()) == pytest.approx(1.0, rel=0.01)


def test_stated_scaling_factor_that_does_not_fit_is_doubted_once(make_pipeline, capsys):
    pipeline = make_pipeline(scaling_factor=0.7)
    pipeline.vae.requires_grad_(False).quant_conv.weight.mul_(1000)
    prior = DiffusionPrior(pipeline)
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    prior.encode(images)
    prior.encode(images)
    said = capsys.readouterr().out
    assert said.count("WARNING DiffusionPrior: scaling_factor is 0.7") == 1


def test_a_generator_for_each_image_makes_draws_independent_of_the_batch(prior):
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    together = prior.encode(images, generator=generators(5))
    alone = [prior.encode(images[k : k + 1], generator=[generators(5)[k]]) for k in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(together, prior.encode(images))
    with pytest.raises(UserError, match="5 images need 5 generators, not 4"):
        prior.encode(images, generator=generators(4))


def test_encoder_fingerprint_follows_the_autoencoder_alone(make_pipeline):
    def key(pipeline):
        return DiffusionPrior(pipeline).encoder_fingerprint

    base = make_pipeline()
    other_dit = make_pipeline(learned_sigma=True, classes=7)
    other_dit.vae = base.vae
    assert key(other_dit) == key(base) == key(make_pipeline())
    assert DiffusionPrior(other_dit).fingerprint != DiffusionPrior(base).fingerprint
    different = [make_pipeline(seed=1), make_pipeline(scaling_factor=0.8)]
    different += [make_pipeline(shift_factor=0.1)]
    assert len({key(base), *map(key, different)}) == 4


def test_another_latent_size_of_the_same_autoencoder_shares_nothing(make_pipeline):
    base, larger = make_pipeline(), make_pipeline()
    larger.transformer.register_to_config(sample_size=8)
    assert DiffusionPrior(larger).image_size == 2 * DiffusionPrior(base).image_size
    keys = {DiffusionPrior(each).encoder_fingerprint for each in (base, larger)}
    assert len(keys) == 2


def test_compiling_changes_neither_names_nor_fingerprints(make_pipeline):
    plain, compiled = DiffusionPrior(make_pipeline()), DiffusionPrior(make_pipeline())
    compiled.compile_networks()
    assert list(compiled.state_dict()) == list(plain.state_dict())
    again = DiffusionPrior(DiTPipeline(compiled.transformer, compiled.vae, compiled.scheduler))
    assert again.fingerprint == plain.fingerprint
    assert again.encoder_fingerprint == plain.encoder_fingerprint


@pytest.mark.slow
def test_compiled_equals_eager(make_pipeline, latents):
    plain, compiled = DiffusionPrior(make_pipeline()), DiffusionPrior(make_pipeline())
    compiled.compile_networks()
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    for count in (4, 3):  # another batch size compiles once more and must not matter
        expected, actual = (
            each.generate(
                latents[:count], IDS[:count], generators=generators(count), sampling=SAMPLING
            )
            for each in (plain, compiled)
        )
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            compiled.encode(images[:count]), plain.encode(images[:count]), atol=1e-4, rtol=0
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_cuda_agrees_with_cpu(tiny_folder, latents, name):
    prior = DiffusionPrior.from_pretrained(tiny_folder, scheduler=name)
    expected = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    prior.to("cuda")
    actual = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
    assert actual.device.type == "cuda"
    torch.testing.assert_close(actual.cpu(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("part", "cause"),
    [("latents", "Lower sampling.guidance_scale"), ("decoder", "Train or choose another auto")],
)
def test_images_that_are_not_finite_are_no_black_ones(prior, latents, part, cause):
    if part == "latents":
        latents[1, 0, 0, 0] = float("nan")
    else:
        prior.vae.decoder.conv_out.weight.data.fill_(float("inf"))
    prior.origin = "here"
    with pytest.raises(NotFiniteError, match=rf"Images of the prior here are not finite.*{cause}"):
        prior.decode(latents)


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_computes_in_the_dtype_of_its_weights_whatever_is_around(prior, latents, default, autocast):
    def images_of():
        images = prior.decode(latents)
        made = prior.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
        drawn = prior.sample(IDS, generators=generators(4), sampling=SAMPLING)
        return torch.cat([prior.encode(images).flatten(), made.flatten(), drawn.flatten()])

    expected = images_of()
    torch.set_default_dtype(default)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            assert torch.equal(images_of(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def sampled_as_by_dits_authors(pipeline, latent, label, generator, strength, guidance, steps):
    """DDPM on spaced steps with a variance between its two bounds (Nichol and Dhariwal 2021), guidance on one channel."""
    dit, alphas = pipeline.transformer, pipeline.scheduler.alphas_cumprod.double()
    times = [round(i * 999 / (steps - 1)) for i in range(steps)]
    spaced = alphas[times]
    before = torch.cat([torch.ones(1, dtype=torch.float64), spaced[:-1]])
    betas = 1 - spaced / before  # of the chain that takes these steps alone
    posterior = betas * (1 - before) / (1 - spaced)
    noise = torch.randn(1, 2, 4, 4, generator=generator)
    first = int(steps * strength) - 1
    z = spaced[first].sqrt() * latent + (1 - spaced[first]).sqrt() * noise
    for k in reversed(range(first + 1)):
        t = torch.tensor([times[k]])
        own, null = (
            dit(z.float(), timestep=t, class_labels=torch.tensor([number])).sample.double()
            for number in (label, 5)
        )
        eps = own[:, :2].clone()
        eps[:, :1] = null[:, :1] + guidance * (own[:, :1] - null[:, :1])
        clean = (z - (1 - spaced[k]).sqrt() * eps) / spaced[k].sqrt()
        mean = before[k].sqrt() * betas[k] / (1 - spaced[k]) * clean
        z = mean + (1 - betas[k]).sqrt() * (1 - before[k]) / (1 - spaced[k]) * z
        if k > 0:
            share = (own[:, 2:] + 1) / 2
            log_variance = share * betas[k].log() + (1 - share) * posterior[k].log()
            z = z + (log_variance / 2).exp() * torch.randn(1, 2, 4, 4, generator=generator)
    return (pipeline.vae.decode(z.float() / 0.7).sample / 2 + 0.5).clamp(0, 1)


AUTHORS = {
    "scheduler": "DDPMScheduler",
    "scheduler_settings": {
        "variance_type": "learned_range",
        "timestep_spacing": "linspace",
        "clip_sample": False,
    },
    "guided_channels": 1,  # of two, as three of four
}


@pytest.mark.parametrize("strength", [0.7, 1.0])
@torch.no_grad()
def test_sampling_as_dits_authors_do_equals_a_written_out_loop(tiny_folder, latents, strength):
    pipeline = DiTPipeline.from_pretrained(tiny_folder, low_cpu_mem_usage=False)
    prior = DiffusionPrior.from_pretrained(tiny_folder, **AUTHORS)
    expected = [
        sampled_as_by_dits_authors(
            pipeline, latents[k : k + 1], int(IDS[k]), generators(4)[k], strength, 3.0, 10
        )
        for k in range(4)
    ]
    actual = prior.generate(
        latents, IDS, generators=generators(4), sampling=Sampling(strength, 3.0, 10)
    )
    torch.testing.assert_close(actual, torch.cat(expected), atol=1e-4, rtol=0)


def test_guided_channels_enter_the_fingerprint_and_all_of_them_are_the_default(
    tiny_folder, prior, latents
):
    one, both = (
        DiffusionPrior.from_pretrained(tiny_folder, guided_channels=count) for count in (1, 2)
    )
    images = [
        each.generate(latents, IDS, generators=generators(4), sampling=SAMPLING)
        for each in (prior, one, both)
    ]
    assert torch.equal(images[0], images[2])
    assert not torch.allclose(images[0], images[1], atol=1e-4)
    assert len({each.fingerprint for each in (prior, one, both)}) == 3
    with pytest.raises(UserError, match="guided_channels must be from 1 to the 2 channels"):
        DiffusionPrior.from_pretrained(tiny_folder, guided_channels=3)


@pytest.mark.parametrize(
    ("scheduler", "settings", "message"),
    [
        ("DDPMScheduler", {"variance_typ": "x"}, "variance_typ is no setting.*Did you mean"),
        ("DDPMScheduler", {"beta_start": 0.1}, "beta_start is no setting"),
        ("DDPMScheduler", {"variance_type": "learnt"}, "must be one of fixed_small, .*'learnt'"),
        ("LMSDiscreteScheduler", {"clip_sample": False}, "means nothing to LMSDiscrete"),
        ("UniPCMultistepScheduler", {"variance_type": "learned_range"}, "UniPCMultistep"),
        ("DPMSolverMultistepScheduler", {"variance_type": "learned_range"}, "reads no variance"),
    ],
)
def test_settings_that_a_scheduler_would_not_heed_are_refused(scheduler, settings, message):
    with pytest.raises(UserError, match=message):
        PretrainedPrior("anywhere", scheduler=scheduler, scheduler_settings=settings)


def test_settings_of_the_folders_own_scheduler(tiny_folder):
    settings = {"timestep_spacing": "trailing"}
    prior = DiffusionPrior.from_pretrained(tiny_folder, scheduler_settings=settings)
    assert isinstance(prior.scheduler, DDIMScheduler)
    assert prior.scheduler.config.timestep_spacing == "trailing"
