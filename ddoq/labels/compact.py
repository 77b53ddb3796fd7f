"""Compact soft labels: what is stored of a teacher's logits, and the logits that are read back.

A student's soft loss sees logits only through a softmax. Logits are therefore a label's whole content, and a label of
a few classes is one more vector of logits: those of the likeliest classes, and one that all others share.
"""

import math

import torch
from torch import Tensor

from ddoq.errors import UserError

_HALF = torch.float16


def index_dtype(num_classes: int) -> torch.dtype:
    """Return the smallest integer type that numbers so many classes and that torch indexes on every device.

    Args:
        num_classes: :math:`C`.

    Returns:
        uint8, int16 or int32.

    Example:
        >>> index_dtype(10), index_dtype(1000), index_dtype(40000)
        (torch.uint8, torch.int16, torch.int32)
    """
    kinds = (torch.uint8, torch.int16, torch.int32)
    return next(kind for kind in kinds if num_classes - 1 <= torch.iinfo(kind).max)


def check_top_k(top_k: int, num_classes: int) -> None:
    """Refuse a number of classes per label that is no smaller than all of them.

    Raises:
        UserError: Unless ``0 <= top_k < num_classes``.
    """
    if not 0 <= top_k < num_classes:
        raise UserError(
            f"label_top_k must be 0, which stores all classes, or below the {num_classes} classes there are, "
            f"not {top_k}."
        )


def compress(logits: Tensor, *, top_k: int = 0, temperature: float = 1.0) -> dict[str, Tensor]:
    r"""Keep of logits what is stored.

    With ``top_k`` the logits :math:`t` of the :math:`k` likeliest classes :math:`K` are kept, and one number for all
    others:

    .. math::
        r = T \log \Big( \frac{1}{C - k} \sum_{c \notin K} e^{t_c / T} \Big)

    A softmax at temperature :math:`T` then gives the classes of :math:`K` the very probabilities that the teacher gave
    them, and spreads what is left evenly: the marginal smoothing of FKD (Shen and Xing, 2022, arXiv 2112.01528).

    Args:
        logits: Float ``(n, C)``.
        top_k: :math:`k`, below :math:`C`; 0 keeps all classes.
        temperature: :math:`T`, at which the labels will be used; it matters with ``top_k`` alone.

    Returns:
        ``logits``: float16 ``(n, C)``. Or ``values``: float16 ``(n, k)``, descending; ``classes``: ``(n, k)`` of
        :func:`index_dtype`; ``rest``: float16 ``(n,)``.

    Raises:
        UserError: If ``top_k`` does not fit, or if a logit is not finite or too large for float16.

    Example:
        >>> kept = compress(torch.tensor([[0.0, 3.0, 0.0, 1.0]]), top_k=2)
        >>> kept["values"].tolist(), kept["classes"].tolist(), kept["rest"].tolist()
        ([[3.0, 1.0]], [[1, 3]], [0.0])
    """
    num_classes = logits.shape[1]
    check_top_k(top_k, num_classes)
    logits = logits.float()
    if top_k == 0:
        kept = {"logits": logits.to(_HALF)}
    else:
        values, classes = logits.topk(top_k, dim=1)
        others = logits.scatter(1, classes, -math.inf)
        sums = torch.logsumexp(others / temperature, dim=1)
        rest = temperature * (sums - math.log(num_classes - top_k))
        kept = {
            "values": values.to(_HALF),
            "classes": classes.to(index_dtype(num_classes)),
            "rest": rest.to(_HALF),
        }
    if not all(bool(torch.isfinite(part).all()) for part in kept.values()):
        raise UserError(
            f"The teacher gave logits up to {float(logits.abs().max()):g}; stored labels are float16 and hold finite "
            f"ones up to {torch.finfo(_HALF).max:g}: use another teacher, or `labels: online`."
        )
    return kept


def expand(kept: dict[str, Tensor], num_classes: int) -> Tensor:
    """Turn what :func:`compress` kept into logits for a softmax at the temperature of its labels.

    Args:
        kept: What :func:`compress` returned, or the same rows of each part.
        num_classes: :math:`C`.

    Returns:
        float32 ``(n, C)``.

    Example:
        >>> expand(compress(torch.tensor([[1.0, 3.0, 0.0, 1.0]]), top_k=2, temperature=1e3), 4)[0, 1:3].tolist()
        [3.0, 0.5]
    """
    if "logits" in kept:
        return kept["logits"].float()
    rest = kept["rest"].float().unsqueeze(1).expand(-1, num_classes)
    return rest.scatter(1, kept["classes"].long(), kept["values"].float())


def shapes(
    n: int, num_classes: int, top_k: int = 0
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and dtype of every part of the labels of ``n`` images.

    Args:
        n: Number of images.
        num_classes: :math:`C`.
        top_k: As :func:`compress` takes it.

    Example:
        >>> shapes(5, 10)
        {'logits': ((5, 10), torch.float16)}
    """
    if top_k == 0:
        return {"logits": ((n, num_classes), _HALF)}
    return {
        "values": ((n, top_k), _HALF),
        "classes": ((n, top_k), index_dtype(num_classes)),
        "rest": ((n,), _HALF),
    }


def label_bytes(n: int, num_classes: int, top_k: int = 0) -> int:
    r"""Count the bytes of the labels of ``n`` images.

    .. math::
        2 n C \qquad \text{or, with } k \text{ classes and indices of } s \text{ bytes, } \qquad n (k (2 + s) + 2)

    Args:
        n: Number of images, times epochs.
        num_classes: :math:`C`.
        top_k: As :func:`compress` takes it.

    Returns:
        Bytes, without the headers of files.

    Example:
        >>> label_bytes(10_000 * 300, 1000), label_bytes(10_000 * 300, 1000, top_k=10)
        (6000000000, 126000000)
    """
    parts = shapes(n, num_classes, top_k).values()
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in parts)
