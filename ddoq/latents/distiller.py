"""What distillers share that start from the latents of a class, cached or encoded on the fly."""

import time
from typing import Any

from torch import Tensor

from ddoq.distillation.distiller import Distiller
from ddoq.latents.cache import (
    ClassLatents,
    LatentCache,
    Posterior,
    encode_class,
    encoded_at,
    encoding_key,
)


class LatentDistiller(Distiller):
    """A distiller that starts from the latents of a class: reads them from the cache or encodes them.

    Attributes:
        batch_size: Images a batch for encoding.
        posterior: ``mode`` or ``sample``.
        latent_cache: Whether latents are kept in the output folder.
        stretch: Whether images that are decoded anew for the encoder are stretched to its square.
        tell_reuse: Whether a run says that it found all latents in the cache; one of many that share them need not.
    """

    neutral = ("latent_cache",)  # at the same batch size it changes no bit of the result

    batch_size: int = 64
    posterior: Posterior = "mode"
    latent_cache: bool = True
    stretch: bool = False
    tell_reuse: bool = True
    _cache: LatentCache | None = None

    @property
    def sees_normalized(self) -> bool:
        """No: a prior takes pixels."""
        return False

    def facts(self) -> dict[str, Any]:
        """Say at which size images were encoded, where they were."""
        encoding = {} if self.prior is None else encoded_at(self.prior, self.data, self.stretch)
        return {**super().facts(), **encoding}

    def formats(self) -> dict[str, Any]:
        """Name the rounding of latents, and the size of encoding where it is not the dataset's.

        Sets made without rounding, or from enlarged copies, are not taken for these.
        """
        if self.prior is None:
            return {**super().formats(), **({"latents": "float16"} if self.needs_prior else {})}
        return {
            **super().formats(),
            "latents": "float16",
            **encoding_key(self.prior, self.data, self.stretch),
        }

    def reused_seconds(self, info: dict[str, Any]) -> float:
        """Count the encoding of latents that were found in the cache."""
        return float(info["encoding_seconds"]) if info.get("encoding_reused") else 0.0

    def on_predict_start(self) -> None:
        """Open the cache, and say what is missing in it."""
        super().on_predict_start()
        if not self.latent_cache or self.prior is None:
            return
        self._cache = LatentCache(
            self.output,
            self.prior,
            self.data,
            posterior=self.posterior,
            seed=self.seed,
            stretch=self.stretch,
        )
        items = [item for item in self.work_items(self.data) if not self._path(item).exists()]
        labels = sorted({label for item in items for label in item.classes})
        if self.tell_reuse or self._cache.missing(labels):
            self._cache.announce(labels)

    def on_predict_end(self) -> None:
        """Say how much was encoded, and close the cache."""
        super().on_predict_end()
        if self._cache is not None:
            self._cache.finish()
            self._cache = None

    def class_points(self, label: int) -> tuple[Tensor, dict[str, Any]]:
        """Return the latents of a class, flattened: the points that are quantised.

        Args:
            label: The class.

        Returns:
            float32 ``(n, d)`` on the device, whose values are fp16 numbers whether or not they come from the
            cache; and facts for the record: the seconds that their encoding took, and whether it was in this run.
        """
        assert self.prior is not None
        if self._cache is not None:
            latents = self._cache.obtain(label, batch_size=self.batch_size, device=self.device)
        else:
            started = time.perf_counter()
            values = encode_class(
                self.prior,
                self.data,
                label,
                batch_size=self.batch_size,
                device=self.device,
                sample_seed=self.seed if self.posterior == "sample" else None,
                stretch=self.stretch,
            )
            latents = ClassLatents(values, time.perf_counter() - started, reused=False)
        info = {"encoding_seconds": latents.seconds, "encoding_reused": latents.reused}
        return latents.values.to(self.device).float().flatten(1), info
