"""Synthetic images that a generator makes, of which the generator's input is optimised instead of the pixels."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.optimisation.pixels import Parameterisation

# From features, float (n, ...), and styles, float (n, layers, d) or None, to images, float (n, 3, h, w).
Decode = Callable[[Tensor, Tensor | None], Tensor]

BOUND = 10.0  # of features: GeorgeCazenavette/glad at fe62863
CHUNK = 10  # images at a time: there as well


@torch.no_grad()
def render(decode: Decode, features: Tensor, styles: Tensor | None, chunk: int = CHUNK) -> Tensor:
    """Make images without a graph, some at a time.

    Args:
        decode: The generator.
        features: Float ``(n, ...)``, n at least 1.
        styles: Float ``(n, layers, d)``; None of a generator that has none.
        chunk: Images at a time.

    Returns:
        Float ``(n, 3, h, w)``.
    """
    parts = [decode(*part) for part in _chunks(features, styles, chunk)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def pull_back(
    decode: Decode,
    features: Tensor,
    styles: Tensor | None,
    gradient: Tensor,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor | None]:
    """Carry a gradient by images back to what they are made of, some images at a time.

    With :func:`render` these are the two passes of GLaD: the loss is differentiated by images that have no graph, and this
    goes through the generator once more. So the loss need not know of the generator, and memory is that of a chunk. The
    numbers are those of one pass, but for the rounding of convolutions in batches of other sizes.

    Args:
        decode: The generator.
        features: As :func:`render` took them.
        styles: As well.
        gradient: Of a loss by the images, float ``(n, 3, h, w)``.
        chunk: Images at a time.

    Returns:
        The gradients of that loss by features and styles, of their shapes; zero where the images do not depend on them.

    Example:
        >>> features, gradient = torch.ones(3, 2), torch.tensor([[1.0], [2.0], [3.0]])
        >>> pull_back(lambda f, w: f.prod(dim=1, keepdim=True), features, None, gradient, chunk=2)[0]
        tensor([[1., 1.],
                [2., 2.],
                [3., 3.]])
    """
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.enable_grad():
        for part, wanted in zip(
            _chunks(features, styles, chunk), gradient.split(chunk), strict=True
        ):
            leaves = [given.detach().requires_grad_() for given in part if given is not None]
            images = decode(leaves[0], leaves[1] if len(leaves) > 1 else None)
            found = torch.autograd.grad(
                images, leaves, wanted, allow_unused=True, materialize_grads=True
            )
            for kept, one in zip(made, found, strict=False):
                kept.append(one)
    by_features, by_styles = (torch.cat(parts) if parts else None for parts in made)
    assert by_features is not None
    return by_features, by_styles


def _chunks(
    features: Tensor, styles: Tensor | None, chunk: int
) -> list[tuple[Tensor, Tensor | None]]:
    """Split both alike."""
    parts = features.split(chunk)
    return list(
        zip(parts, [None] * len(parts) if styles is None else styles.split(chunk), strict=True)
    )


class GeneratorLatents(Parameterisation):
    """Images that a generator makes of features and styles, which gradient descent with momentum changes.

    With a generator that returns its features the images are those of :class:`ddoq.optimisation.pixels.Pixels`, bit for bit.

    Args:
        decode: The generator, to images of the space that they are matched in; its weights ask for no gradients.
        features: Float ``(n, ...)``; they are copied.
        styles: Float ``(n, layers, d)``, copied as well; None of a generator that has none.
        lr: Step size of the features.
        lr_styles: Step size of the styles.
        momentum: Of both, in [0, 1); the heavy-ball kind, as ``torch.optim.SGD`` has it.
        bound: Features are kept in [-bound, bound], from the beginning on.
        chunk: Images that go through the generator at a time.
        before: Images that stand before these and stay as they are, float ``(m, 3, h, w)``; None for none.

    Example:
        >>> latents = GeneratorLatents(lambda f, w: 2 * f, torch.zeros(1, 1, 1, 1), lr=0.25, lr_styles=0.0)
        >>> latents.descend((latents.images - 1).square().sum())  # the gradient by the image is -2, by the feature -4
        >>> latents.features.item(), latents.images.item()
        (1.0, 2.0)
    """

    mend = "lower the learning rates of the latents (model.init_args.lr and lr_style)"

    def __init__(
        self,
        decode: Decode,
        features: Tensor,
        styles: Tensor | None = None,
        *,
        lr: float,
        lr_styles: float,
        momentum: float = 0.0,
        bound: float = math.inf,
        chunk: int = CHUNK,
        before: Tensor | None = None,
    ) -> None:
        self._decode = decode
        self._rates = (lr, lr_styles)
        self._momentum = momentum
        self._bound = bound
        self._chunk = chunk
        self._before = None if before is None else before.detach().clone()
        self.fixed = 0 if before is None else len(before)
        self.loss = torch.zeros((), device=features.device)
        self.begin(features, styles)

    def begin(self, features: Tensor, styles: Tensor | None) -> None:
        """Take other latents, with a fresh optimiser."""
        self.features = features.detach().clone().clamp_(-self._bound, self._bound).requires_grad_()
        self.styles = None if styles is None else styles.detach().clone().requires_grad_()
        leaves = [self.features] if self.styles is None else [self.features, self.styles]
        groups = [
            {"params": [leaf], "lr": rate} for leaf, rate in zip(leaves, self._rates, strict=False)
        ]
        self._optimizer = torch.optim.SGD(groups, lr=self._rates[0], momentum=self._momentum)
        self._show()

    def _show(self) -> None:
        """Make the images of the latents as they are now."""
        images = render(self._decode, self.features.detach(), _plain(self.styles), self._chunk)
        if self._before is not None:
            images = torch.cat([self._before, images])
        self.images = images.detach().requires_grad_()

    def follow(self, gradient: Tensor, loss: Tensor) -> None:
        """Carry a gradient by the images back through the generator, and take a step."""
        by_features, by_styles = pull_back(
            self._decode,
            self.features.detach(),
            _plain(self.styles),
            gradient[self.fixed :],
            self._chunk,
        )
        self.features.grad = by_features
        if self.styles is not None:
            self.styles.grad = by_styles
        self._step()
        self._optimizer.zero_grad()
        self.loss = loss.detach()
        self._show()

    def _step(self) -> None:
        self._optimizer.step()
        with torch.no_grad():
            self.features.clamp_(-self._bound, self._bound)

    def coast(self, steps: int) -> None:
        """Let momentum alone take steps; see :class:`ddoq.optimisation.pixels.Parameterisation`."""
        if not self._momentum or not self._optimizer.state:
            return
        for leaf in (self.features, self.styles):
            if leaf is not None:
                leaf.grad = torch.zeros_like(leaf)
        for _ in range(steps):
            self._step()
        self._optimizer.zero_grad()
        self._show()

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint; images are made again from it."""
        styles = {} if self.styles is None else {"styles": self.styles.detach()}
        return {
            "features": self.features.detach(),
            **styles,
            "optimizer": self._optimizer.state_dict(),
            "loss": self.loss,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        device = self.images.device
        styles = state.get("styles")
        self.begin(state["features"].to(device), None if styles is None else styles.to(device))
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        self.loss = state["loss"].to(device)


def _plain(styles: Tensor | None) -> Tensor | None:
    return None if styles is None else styles.detach()
