"""The moving average of what is optimised."""

from torch import Tensor


class Average:
    """An exponential moving average that starts from the first value.

    Args:
        value: What it starts from; copied.
        decay: What it keeps of itself at an update, in [0, 1); 0 is the latest value, bit for bit.

    Attributes:
        value: The average as it is now.

    Example:
        >>> import torch
        >>> average = Average(torch.tensor([0.0]), decay=0.75)
        >>> average.update(torch.tensor([4.0]))
        >>> average.value
        tensor([1.])
    """

    def __init__(self, value: Tensor, decay: float) -> None:
        self.value = value.detach().clone()
        self._decay = decay

    def update(self, value: Tensor) -> None:
        """Take in the next value, of the same shape."""
        self.value.lerp_(value.detach(), 1 - self._decay)

    def restore(self, value: Tensor) -> None:
        """Go on from an average; it may be on another device."""
        self.value.copy_(value)
