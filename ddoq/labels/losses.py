"""Losses per sample, and the weighted mean that folds them: a batch mean taken first could carry no weights."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ddoq.errors import UserError

Reduction = Literal["batch", "weights"]


def soft_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, scale_t2: bool = False
) -> Tensor:
    r"""Divergence of the student's softened distribution from the teacher's, per sample.

    .. math::
        \ell_i = \sum_c p_{ic} (\log p_{ic} - \log q_{ic}), \quad
        p_i = \mathrm{softmax}(t_i / T), \quad q_i = \mathrm{softmax}(s_i / T)

    Without the factor :math:`T^2` that Hinton et al. (2015) put in front: SRe2L and RDED leave it out.

    Args:
        student_logits: Float ``(n, C)``; computed on in float32.
        teacher_logits: Float ``(n, C)``.
        temperature: :math:`T > 0`.
        scale_t2: Whether to multiply by :math:`T^2`.

    Returns:
        float32 ``(n,)``, at least 0 up to rounding.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> soft_kl(logits, logits, temperature=20.0).tolist()
        [0.0, 0.0]
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    losses = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return losses * temperature**2 if scale_t2 else losses


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, scale_t2: bool = False
) -> Tensor:
    r"""Cross-entropy between softened distributions, per sample.

    .. math::
        \ell_i = -\sum_c p_{ic} \log q_{ic}

    It is :func:`soft_kl` plus the teacher's entropy, so both have the same gradient for the student.

    Args:
        student_logits: Float ``(n, C)``; computed on in float32.
        teacher_logits: Float ``(n, C)``.
        temperature: :math:`T > 0`.
        scale_t2: Whether to multiply by :math:`T^2`.

    Returns:
        float32 ``(n,)``.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.zeros(1, 2), temperature=1.0)
        tensor([0.6931])
    """
    teacher = F.softmax(teacher_logits.float() / temperature, dim=1)
    losses = F.cross_entropy(student_logits.float() / temperature, teacher, reduction="none")
    return losses * temperature**2 if scale_t2 else losses


def hard_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor | None = None, lam: Tensor | None = None
) -> Tensor:
    r"""Cross-entropy with class indices, per sample; of both labels where images are mixed.

    .. math::
        \ell_i = \lambda_i\, \mathrm{CE}(s_i, y_i) + (1 - \lambda_i)\, \mathrm{CE}(s_i, y_{\pi(i)})

    Args:
        logits: Float ``(n, C)``; computed on in float32.
        labels: int64 ``(n,)``.
        partner_labels: int64 ``(n,)``, the labels of the images that were mixed in; None without mixing.
        lam: float32 ``(n,)``, the share of the image that kept its own pixels; needed with partners.

    Returns:
        float32 ``(n,)``.

    Example:
        >>> import torch
        >>> hard_cross_entropy(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    if partner_labels is None or lam is None:
        return losses
    return lam * losses + (1 - lam) * F.cross_entropy(
        logits.float(), partner_labels, reduction="none"
    )


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""Squared error, per sample: :math:`\ell_i = \frac{1}{d} \sum_j (s_{ij} - t_{ij})^2`.

    Its mean over samples is what ``torch.nn.functional.mse_loss`` gives.

    Args:
        outputs: Float ``(n, d)``; computed on in float32.
        targets: Float ``(n, d)``: probabilities, logits or vectors of any meaning.

    Returns:
        float32 ``(n,)``.

    Example:
        >>> import torch
        >>> squared_error(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor([5.])
    """
    return F.mse_loss(outputs.float(), targets.float(), reduction="none").mean(dim=1)


def mix_weights(weights: Tensor, partner_weights: Tensor, lam: Tensor) -> Tensor:
    r"""Weight of a mixed image: :math:`\lambda_i w_i + (1 - \lambda_i) w_{\pi(i)}`.

    Args:
        weights: float32 ``(n,)``.
        partner_weights: float32 ``(n,)``, of the images that were mixed in.
        lam: float32 ``(n,)``, the share of the image that kept its own pixels.

    Returns:
        float32 ``(n,)``.

    Example:
        >>> import torch
        >>> mix_weights(torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([0.25]))
        tensor([0.5000])
    """
    return lam * weights + (1 - lam) * partner_weights


def weighted_mean(
    losses: Tensor,
    weights: Tensor,
    reduction: Reduction = "batch",
    batch_weights: Tensor | None = None,
) -> Tensor:
    r"""Fold losses and weights into one number.

    .. math::
        \text{batch: } \frac{1}{B} \sum_i w_i \ell_i \qquad
        \text{weights: } \frac{\sum_i w_i \ell_i}{\sum_i w_i}

    ``batch`` is DDOQ's weighted loss in expectation; with ``weights`` a batch of light images counts as much as a
    batch of heavy ones.

    Args:
        losses: float32 ``(n,)``.
        weights: float32 ``(n,)``.
        reduction: What to divide by.
        batch_weights: float32 ``(B,)``, the weights of the whole batch where ``losses`` are one rank's share of it:
            the shares of all ranks then add up to the mean of the batch. ``weights`` where omitted.

    Returns:
        Scalar tensor; 0, not NaN, where all weights are 0.

    Raises:
        UserError: If the reduction is unknown.

    Example:
        >>> import torch
        >>> losses, weights = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.0])
        >>> weighted_mean(losses, weights).item(), weighted_mean(losses, weights, "weights").item()
        (5.0, 2.5)
    """
    batch_weights = weights if batch_weights is None else batch_weights
    total = (losses * weights).sum()
    if reduction == "batch":
        return total / len(batch_weights)
    if reduction == "weights":
        return total / batch_weights.sum().clamp(min=1e-12)
    raise UserError(f"Unknown reduction {reduction!r}. Valid: batch, weights.")
