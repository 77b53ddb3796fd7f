"""The text-conditional prior: Stable Diffusion, told each class by its prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from torch import Tensor, nn

from ddoq.errors import UserError
from ddoq.priors.latent import LatentDiffusionPrior
from ddoq.priors.loading import STABLE_DIFFUSION, Opening, open_pipeline, parse_dtype
from ddoq.priors.schedulers import scheduler_label
from ddoq.storage.fingerprints import hash_config, hash_module, hash_tensors

# What of a text encoder's configuration changes its output beyond its weights. The rest of it differs between
# releases of transformers, and would change fingerprints.
_TEXT_SETTINGS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "use_attention_mask")


class StableDiffusionPrior(LatentDiffusionPrior):
    """A diffusers Stable Diffusion pipeline as a prior, such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``.

    :meth:`generate` gives what diffusers' ``StableDiffusionImg2ImgPipeline`` gives from the same latents with the
    same generators, but takes images of several classes in one batch. Nothing is ever blacked out: the safety
    checker is not loaded.

    Each prompt goes through the text encoder by itself, when its class is first asked for, and is kept: so an image
    depends neither on the classes beside it nor on what was drawn before.

    Args:
        pipeline: Autoencoder, UNet, text encoder, tokenizer and scheduler.
        prompts: For each class of the dataset, what the model is told.
        negative_prompt: What guidance leads away from; D4M's script says ``cartoon, anime, painting``.

    Raises:
        UserError: If a prompt is empty or longer than the text encoder reads, or if the tokenizer makes
            nothing of it.
    """

    def __init__(
        self,
        pipeline: StableDiffusionImg2ImgPipeline,
        prompts: Sequence[str],
        negative_prompt: str = "",
    ) -> None:
        side = pipeline.unet.config.sample_size
        shape = (pipeline.unet.config.in_channels, side, side)
        super().__init__(pipeline.vae, pipeline.scheduler, shape, len(prompts))
        self.unet = pipeline.unet
        self.text_encoder = pipeline.text_encoder
        self.prompts = list(prompts)
        self.negative_prompt = negative_prompt
        self._pipeline = pipeline  # shares its modules with this one, and encodes prompts
        self._embeddings: dict[str, Tensor] = {}
        self.requires_grad_(False).eval()
        self.fingerprint = self._hash(self._tokens())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = STABLE_DIFFUSION.example,
        *,
        prompts: Sequence[str],
        negative_prompt: str = "",
        dtype: str | torch.dtype = torch.float32,
        scheduler: str | None = None,
        variant: str | None = None,
        allow_pickle: bool = False,
        scheduler_settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a folder in the format of diffusers' ``StableDiffusionPipeline``, or a hub id.

        Args:
            source: The folder or the id.
            prompts: See the class.
            negative_prompt: See the class.
            dtype: float32, bfloat16 or float16; images and latents are float32 all the same.
            scheduler: Class name of a diffusers scheduler; None takes the folder's own.
            variant: See :class:`ddoq.priors.loading.Opening`.
            allow_pickle: See :class:`ddoq.priors.loading.Opening`.
            scheduler_settings: See :class:`ddoq.priors.loading.Opening`.

        Returns:
            The prior, on the CPU.

        Raises:
            UserError: If it cannot be opened; see :func:`ddoq.priors.loading.open_pipeline`.
        """
        opening = Opening(scheduler, variant, allow_pickle, scheduler_settings or {})
        pipeline = open_pipeline(str(source), parse_dtype(dtype), STABLE_DIFFUSION, opening)
        prior = cls(pipeline, prompts, negative_prompt)
        prior.origin = str(source)
        return prior

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        unet: nn.Module = self.unet
        return unet

    def conditions(self, class_ids: Tensor) -> Tensor:
        """Return the text embeddings of classes, ``(n, tokens, width)``."""
        return torch.stack([self._embed(self.prompts[label]) for label in class_ids.tolist()])

    def null_conditions(self, class_ids: Tensor) -> Tensor:
        """Return the embedding of the negative prompt, n times."""
        return self._embed(self.negative_prompt).expand(len(class_ids), -1, -1)

    def no_conditions(self, count: int) -> Tensor:
        """Return the embedding of the empty prompt, with which Stable Diffusion was trained to know no class."""
        return self._embed("").expand(count, -1, -1)

    def predict(self, inputs: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Run the UNet; see :meth:`LatentDiffusionPrior.predict`."""
        output: Tensor = self.unet(inputs, times, encoder_hidden_states=conditions).sample
        return output

    def _embed(self, prompt: str) -> Tensor:
        """Return the embedding of a prompt, ``(tokens, width)``, from the cache where it is there."""
        kept = self._embeddings.get(prompt)
        if kept is None or (kept.device, kept.dtype) != (self.device, self.dtype):
            # Without guidance: the pipeline would encode a negative prompt along with every prompt.
            kept = self._pipeline.encode_prompt(prompt, self.device, 1, False)[0][0]
            self._embeddings[prompt] = kept
        return kept

    def _tokens(self) -> Tensor:
        """Tokenise the negative prompt and all prompts, int64 ``(1 + classes, tokens)``, and check them."""
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise UserError("Stable Diffusion needs a prompt for every class; one is empty.")
        tokenizer, texts = self._pipeline.tokenizer, [self.negative_prompt, *self.prompts]
        longest = tokenizer.model_max_length
        read = tokenizer(texts, verbose=False).input_ids
        for text, tokens in zip(texts, read, strict=True):
            if len(tokens) > longest:
                raise UserError(
                    f"The prompt {text!r} has {len(tokens)} tokens; the text encoder reads {longest}. Shorten it."
                )
            if text.strip() and not set(tokens) - set(tokenizer.all_special_ids):
                raise UserError(
                    f"The tokenizer finds no word in the prompt {text!r}. Are its vocab.json and merges.txt whole?"
                )
        padded = tokenizer(texts, padding="max_length", max_length=longest, return_tensors="pt")
        ids: Tensor = padded.input_ids
        return ids

    def _hash(self, tokens: Tensor) -> str:
        """Hash weights, configurations, prompts and what the tokenizer makes of them."""
        parts = (self.vae, self.unet, self.scheduler)
        configs: list[dict[str, Any]] = [
            {k: v for k, v in part.config.items() if not k.startswith("_")} for part in parts
        ]
        text = {name: getattr(self.text_encoder.config, name, None) for name in _TEXT_SETTINGS}
        weights = [self._vae_hash, hash_module(self.unet), hash_module(self.text_encoder)]
        name = scheduler_label(self.scheduler)
        said = [self.prompts, self.negative_prompt, hash_tensors({"tokens": tokens})]
        return hash_config([name, configs, text, weights, said])
