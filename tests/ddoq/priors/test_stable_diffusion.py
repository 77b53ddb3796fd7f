"""The Stable Diffusion prior against diffusers' own pipelines, one image at a time, on a tiny model."""

import json
import shutil

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled
from tiny_pipelines import build_stable_diffusion, write_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

from ddoq.costs.workload import Sizes
from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior, PretrainedPrior, Sampling, StableDiffusionPrior
from ddoq.priors.loading import STABLE_DIFFUSION, STABLE_DIFFUSION_PARTS, find_format, open_pipeline
from ddoq.seeding import generator_for

PROMPTS = ["a cat", "a dog", "a tench, tinca tinca", "fish"]
NEGATIVE = "cartoon, anime"
IDS = torch.tensor([2, 0, 1, 2])
SAMPLING = Sampling(strength=0.7, guidance_scale=8.0, num_inference_steps=10)
SCHEDULERS = [
    "PNDMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    root = tmp_path_factory.mktemp("stable-diffusion")
    build_stable_diffusion(root / "tokenizer").save_pretrained(root / "pipeline")
    return root / "pipeline"


@pytest.fixture
def copied(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "copy")


@pytest.fixture
def open_prior(tiny_sd):
    def open_it(**changes):
        settings = {"prompts": PROMPTS, "negative_prompt": NEGATIVE, **changes}
        return StableDiffusionPrior.from_pretrained(tiny_sd, **settings)

    return open_it


@pytest.fixture
def reference(tiny_sd):
    """Diffusers' pipeline of a class, with a scheduler made as its documentation does."""

    def open_it(kind=StableDiffusionImg2ImgPipeline, name="PNDMScheduler"):
        pipeline = kind.from_pretrained(
            tiny_sd, safety_checker=None, requires_safety_checker=False, low_cpu_mem_usage=False
        )
        made = getattr(diffusers, name).from_config(pipeline.scheduler.config)
        pipeline = kind(**{**pipeline.components, "scheduler": made}, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return open_it


@pytest.fixture
def latents():
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def generators(n=4, start=0):
    return [generator_for(7, "noise", start + k) for k in range(n)]


def one_by_one(pipeline, latents, ids, sampling, negative=NEGATIVE):
    """Call diffusers' image-to-image pipeline for each image by itself."""
    images = [
        pipeline(
            PROMPTS[label],
            image=latents[k : k + 1],
            strength=sampling.strength,
            guidance_scale=sampling.guidance_scale,
            num_inference_steps=sampling.num_inference_steps,
            negative_prompt=negative,
            generator=[generators()[k]],
            output_type="pt",
        ).images
        for k, label in enumerate(ids.tolist())
    ]
    return torch.cat(images)


@pytest.mark.filterwarnings("ignore:The configuration file:FutureWarning")  # of the reference
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_batch_equals_diffusers_one_image_at_a_time(
    open_prior, reference, latents, name, guidance, strength
):
    sampling = Sampling(strength, guidance, 10)
    expected = one_by_one(reference(name=name), latents, IDS, sampling)
    prior = open_prior(scheduler=name)
    actual = prior.generate(latents, IDS, generators=generators(), sampling=sampling)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    assert actual.std() > 0.05  # neither grey nor clamped
    assert ((actual > 0) & (actual < 1)).float().mean() > 0.5


def test_settings_of_d4m_equal_diffusers(open_prior, reference, latents):
    """SD 1.5's own scheduler lists 51 steps for 50, so that strength 0.7 runs 36 of them."""
    prior = open_prior()
    passes = []
    prior.unet.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    sampling = Sampling(0.7, 8.0, 50)
    actual = prior.generate(latents, IDS, generators=generators(), sampling=sampling)
    assert passes == [8] * 36
    expected = one_by_one(reference(), latents, IDS, sampling)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_sampling_from_noise_equals_diffusers(open_prior, reference):
    pipeline = reference(StableDiffusionPipeline)
    expected = torch.cat(
        [
            pipeline(
                PROMPTS[label],
                guidance_scale=5.0,
                num_inference_steps=8,
                negative_prompt=NEGATIVE,
                generator=[generators()[k]],
                output_type="pt",
            ).images
            for k, label in enumerate(IDS.tolist())
        ]
    )
    actual = open_prior().sample(IDS, generators=generators(), sampling=Sampling(1.0, 5.0, 8))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_encoding_equals_diffusers(open_prior, reference):
    pipeline, prior = reference(), open_prior()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(images)).latent_dist
    torch.testing.assert_close(prior.encode(images), posterior.mode() * 0.18215)
    drawn = prior.encode(images, generator=torch.Generator().manual_seed(3))
    expected = posterior.sample(torch.Generator().manual_seed(3)) * 0.18215
    torch.testing.assert_close(drawn, expected)
    assert prior.encode(torch.rand(2, 3, 40, 30)).shape == (2, *prior.latent_shape)
    assert (prior.latent_shape, prior.image_size, prior.num_classes) == ((4, 8, 8), 16, 4)


def test_prompts_are_embedded_once_and_alone(open_prior, latents):
    prior = open_prior()
    batches = []
    prior.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: batches.append(len(args[0] if args else kwargs["input_ids"])),
        with_kwargs=True,
    )
    first = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    again = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    assert batches == [1] * 4  # three classes and the negative prompt
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    prior.generate(latents, torch.tensor([3] * 4), generators=generators(), sampling=SAMPLING)
    assert batches == [1] * 5


def test_prompt_and_negative_prompt_matter(open_prior, latents):
    def draw(ids, guidance, **changes):
        sampling = Sampling(0.7, guidance, 10)
        prior = open_prior(**changes)
        return prior.generate(latents, ids, generators=generators(), sampling=sampling)

    cats, dogs = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    assert (draw(cats, 8.0) - draw(dogs, 8.0)).abs().mean() > 1e-3
    assert (draw(cats, 8.0) - draw(cats, 8.0, negative_prompt="")).abs().mean() > 1e-3
    torch.testing.assert_close(draw(cats, 1.0), draw(cats, 1.0, negative_prompt=""), atol=0, rtol=0)


def test_images_depend_neither_on_batch_nor_on_random_state(open_prior, latents):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    prior = open_prior(scheduler="EulerAncestralDiscreteScheduler")
    together = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    assert torch.equal(state, torch.get_rng_state())
    for k in range(4):
        alone = prior.generate(
            latents[k : k + 1], IDS[k : k + 1], generators=generators(1, k), sampling=SAMPLING
        )
        torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:The configuration file:FutureWarning")
def test_scheduler_by_name_takes_the_settings_of_the_pipeline(tmp_path):
    # A folder whose scheduler leaves both settings out: DDIM alone would clip latents, with no offset.
    pipeline = build_stable_diffusion(
        tmp_path / "tokenizer", scheduler=PNDMScheduler(skip_prk_steps=True)
    )
    pipeline.save_pretrained(tmp_path / "pipeline")
    prior = StableDiffusionPrior.from_pretrained(
        tmp_path / "pipeline", prompts=PROMPTS, scheduler="DDIMScheduler"
    )
    assert not prior.scheduler.config.clip_sample
    assert prior.scheduler.config.steps_offset == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_float32_images_near_those_of_float32(open_prior, latents, dtype):
    half, prior = open_prior(dtype=dtype), open_prior()
    assert {p.dtype for p in half.parameters()} == {getattr(torch, dtype)} == {half.dtype}
    images = half.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    exact = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    assert images.dtype == half.encode(images).dtype == torch.float32
    assert (images - exact).abs().mean() < 0.05
    assert half.fingerprint != prior.fingerprint


def test_fingerprint_follows_prompts_weights_and_scheduler(open_prior, tmp_path, tiny_sd):
    base = open_prior().fingerprint
    assert base == open_prior().fingerprint
    build_stable_diffusion(tmp_path / "tokenizer", seed=1).save_pretrained(tmp_path / "other")
    text = build_stable_diffusion(tmp_path / "again", seed=1).text_encoder
    mixed = open_pipeline(str(tiny_sd), torch.float32, STABLE_DIFFUSION)
    mixed.text_encoder = text
    others = [
        open_prior(prompts=[*PROMPTS[:3], "bird"]),
        open_prior(prompts=PROMPTS[::-1]),
        open_prior(negative_prompt=""),
        open_prior(scheduler="DDIMScheduler"),
        StableDiffusionPrior.from_pretrained(
            tmp_path / "other", prompts=PROMPTS, negative_prompt=NEGATIVE
        ),
        StableDiffusionPrior(mixed, PROMPTS, NEGATIVE),
    ]
    assert len({base, *(prior.fingerprint for prior in others)}) == 7


def test_dit_of_the_same_autoencoder_shares_latents(open_prior, tiny_sd):
    prior = open_prior()
    vae = AutoencoderKL.from_pretrained(tiny_sd / "vae", low_cpu_mem_usage=False).eval()
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=5,
    )
    other = DiffusionPrior(diffusers.DiTPipeline(dit, vae, diffusers.DDIMScheduler()))
    assert other.fingerprint != prior.fingerprint
    assert other.encoder_fingerprint == prior.encoder_fingerprint
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(other.encode(images), prior.encode(images))
    half = open_prior(dtype="bfloat16")
    assert half.encoder_fingerprint != prior.encoder_fingerprint
    for change in ({"prompts": PROMPTS[:2]}, {"scheduler": "DDIMScheduler"}):
        assert open_prior(**change).encoder_fingerprint == prior.encoder_fingerprint


def test_no_safety_checker_is_loaded(copied):
    # The hub's folder lists one; here it would fail, because its files are not there.
    index = json.loads((copied / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["requires_safety_checker"] = True
    (copied / "model_index.json").write_text(json.dumps(index))
    prior = StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS)
    assert sorted(name for name, _ in prior.named_children()) == ["text_encoder", "unet", "vae"]


def test_tokenizer_in_the_layout_of_the_hub(copied, open_prior, tmp_path):
    shutil.rmtree(copied / "tokenizer")
    write_tokenizer(copied / "tokenizer")
    prior = StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS, negative_prompt=NEGATIVE)
    assert prior.fingerprint == open_prior().fingerprint
    for file in ("vocab.json", "merges.txt"):
        (copied / "tokenizer" / file).unlink()
    with pytest.raises(UserError, match=r"vocab\.json and merges|cannot be loaded"):
        StableDiffusionPrior.from_pretrained(copied, prompts=["a cat"])


def test_source_opens_either_kind(tiny_sd, tiny_folder, tmp_path, make_random_data, quiet, latents):
    data = make_random_data(image_size=16)
    source = PretrainedPrior(
        str(tiny_sd), scheduler="DDIMScheduler", negative_prompt=NEGATIVE, vae_slicing=True
    )
    prior = source.obtain(data, tmp_path, quiet)
    assert isinstance(prior, StableDiffusionPrior)
    assert prior.prompts == data.classes.prompts == ["class 0", "class 1", "class 2"]
    assert prior.negative_prompt == NEGATIVE
    assert prior.vae.use_slicing
    sliced = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    prior.vae.disable_slicing()
    whole = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    torch.testing.assert_close(sliced, whole, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match=r"prior\.classes"):
        PretrainedPrior(str(tiny_sd), classes=[1, 2, 3]).obtain(data, tmp_path, quiet)
    with pytest.raises(UserError, match=r"prior\.negative_prompt"):
        PretrainedPrior(str(tiny_folder), negative_prompt="x").obtain(data, tmp_path, quiet)


@pytest.mark.parametrize("part", STABLE_DIFFUSION_PARTS)
def test_missing_part_is_named(copied, part):
    (copied / part).unlink()
    with pytest.raises(UserError, match=part):
        StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS)


@pytest.mark.parametrize("folder", ["unet", "text_encoder"])
def test_missing_weights_are_a_user_error(copied, folder):
    for file in (copied / folder).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match="cannot be loaded as a Stable Diffusion pipeline"):
        StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS)


def test_index_without_text_encoder(copied):
    index = json.loads((copied / "model_index.json").read_text())
    index["text_encoder"] = [None, None]
    (copied / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="no text encoder"):
        StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS)


@pytest.mark.parametrize(
    ("part", "make", "message"),
    [
        ("vae", lambda: AutoencoderKL(block_out_channels=(32,), latent_channels=8), "8 latent"),
        (
            "text_encoder",
            lambda: CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=99, hidden_size=8, num_hidden_layers=1, num_attention_heads=2
                )
            ),
            "8 values a token, the UNet reads 16",
        ),
        (
            "text_encoder",
            lambda: CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
                )
            ),
            "60 tokens, the text encoder 9",
        ),
    ],
)
def test_parts_that_do_not_belong_together(tmp_path, part, make, message):
    build_stable_diffusion(tmp_path / "tokenizer", **{part: make()}).save_pretrained(
        tmp_path / "mixed"
    )
    with pytest.raises(UserError, match=message):
        StableDiffusionPrior.from_pretrained(tmp_path / "mixed", prompts=PROMPTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 7),
        ("addition_embed_type", "text"),
        ("encoder_hid_dim_type", "text_proj"),
    ],
)
def test_unet_that_wants_more_than_a_prompt(copied, key, value):
    # Written in: the weights of such a UNet would fit, and its first step would fail.
    unet = UNet2DConditionModel.from_pretrained(copied / "unet", low_cpu_mem_usage=False)
    config = {**unet.config, key: value, "encoder_hid_dim": 16}
    UNet2DConditionModel.from_config(config).save_pretrained(copied / "unet")
    with pytest.raises(UserError, match=rf"unet/config\.json has {key} '?{value}"):
        StableDiffusionPrior.from_pretrained(copied, prompts=PROMPTS)
    with pytest.raises(UserError, match=f"has {key}"):
        PretrainedPrior(str(copied)).workload(Sizes(2, 8, 4, 16, 4, (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["a cat", " "], "prompt for every class"),
        ([], "prompt for every class"),
        (["cat " * 23], "25 tokens; the text encoder reads 24"),
    ],
)
def test_bad_prompts_are_refused(open_prior, prompts, message):
    with pytest.raises(UserError, match=message):
        open_prior(prompts=prompts)


@pytest.mark.parametrize(
    ("shape", "ids", "message"),
    [
        ((2, 4, 4, 4), [0, 1], r"\(n, 4, 8, 8\)"),
        ((2, 4, 8, 8), [0, 4], r"0\.\.3"),
        ((2, 4, 8, 8), [0], "2 integers"),
    ],
)
def test_bad_input_is_refused(open_prior, shape, ids, message):
    with pytest.raises(UserError, match=message):
        open_prior().generate(torch.zeros(shape), torch.tensor(ids), generators=generators(2))


def raising(error):
    def refuse(*args, **kwargs):
        try:
            raise error
        except Exception as cause:  # as diffusers does, which wraps what the hub client raises
            raise OSError("cannot load") from cause

    return refuse


def gated():
    import httpx

    request = httpx.Request("GET", "https://huggingface.co/a/b")
    return GatedRepoError("403", response=httpx.Response(403, request=request))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OfflineModeIsEnabled("offline"), "hf download a/b --local-dir"),
        (gated(), "hf auth login.*hf download a/b --local-dir FOLDER"),
    ],
)
def test_hub_that_refuses_says_what_to_do(monkeypatch, error, message):
    monkeypatch.setattr(DiffusionPipeline, "load_config", raising(error))
    with pytest.raises(UserError, match=message):
        find_format("a/b")
    monkeypatch.setattr(StableDiffusionImg2ImgPipeline, "from_pretrained", raising(error))
    with pytest.raises(UserError, match=message):
        StableDiffusionPrior.from_pretrained("a/b", prompts=PROMPTS)


def test_folders_of_other_kinds(tmp_path, tiny_sd, tiny_folder):
    assert [find_format(str(f)).name for f in (tiny_sd, tiny_folder)] == ["Stable Diffusion", "DiT"]
    with pytest.raises(UserError, match="model_index"):
        find_format(str(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match="FluxPipeline; a prior can be of DiTPipeline or Stable"):
        find_format(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        find_format(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="stable-diffusion-v1-5"):
        StableDiffusionPrior.from_pretrained(tmp_path / "nowhere", prompts=PROMPTS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_cuda_agrees_with_cpu(open_prior, latents, name):
    prior = open_prior(scheduler=name)
    expected = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    prior.to("cuda")
    actual = prior.generate(latents, IDS, generators=generators(), sampling=SAMPLING)
    assert actual.device.type == "cuda"
    torch.testing.assert_close(actual.cpu(), expected, atol=2e-3, rtol=0)
