r"""What single real images change about a step of the synthetic ones.

A loss that sees a batch of real images through a mean of rows (features, gradients) is known for every batch that lacks
one of them: the mean without row i is :math:`\bar r_{-i} = \bar r + (\bar r - r_i) / (m - 1)`.

Source: Y. Xu et al., *Distill Gold from Massive Ores: Bi-level Data Pruning towards Efficient Dataset Distillation*, ECCV
2024, whose code leaves this part out: the formula is read from its definition, the effect of leaving a sample out.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def influences(rows: Tensor, loss: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    r"""Measure how much the gradient of the images changes where one row is left out of the mean.

    .. math::
        \bigl\| \nabla_S L(\bar r_{-i}, S) - \nabla_S L(\bar r, S) \bigr\|

    Args:
        rows: Float ``(m, d)``, without gradient.
        loss: From the mean row, float ``(d,)``, to a scalar that depends on the images.
        images: What the loss is differentiated by; a leaf.

    Returns:
        Float ``(m,)``, at least 0; zeros for a batch of one, of which nothing would be left.

    Example:
        >>> images = torch.zeros(2, requires_grad=True)
        >>> rows = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
        >>> influences(rows, lambda mean: (mean - images).square().sum(), images)
        tensor([1., 2., 1.])
    """
    count = len(rows)
    if count == 1:
        return rows.new_zeros(1)
    mean = rows.mean(dim=0)
    (whole,) = torch.autograd.grad(loss(mean), images, retain_graph=True)
    norms = []
    for row in rows:
        value = loss(mean + (mean - row) / (count - 1))
        (without,) = torch.autograd.grad(value, images, retain_graph=True)
        norms.append((without - whole).norm())
    return torch.stack(norms)
