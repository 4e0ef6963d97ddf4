"""The combined loss of the two outputs."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """Scalars, each a mean over the batch, in nats."""

    digit: Tensor
    sum: Tensor
    total: Tensor


def total_loss(
    log_probs: Tensor, digit: Tensor, logits: Tensor, sum: Tensor, *,
    digit_weight: float = 1.0, sum_weight: float = 1.0, label_smoothing: float = 0.0,
) -> Losses:  # fmt: skip
    r"""Negative log-likelihood of the digit plus cross-entropy of the sum.

    .. math::
        \mathrm{NLL} = -\frac1B \sum_b \ell_{b,\,\mathrm{digit}_b}, \qquad
        \mathrm{CE} = -\frac1B \sum_b \Big(z_{b,\,\mathrm{sum}_b} - \log\sum_{s=0}^{18} e^{z_{b,s}}\Big)

    with log-probabilities :math:`\ell` and logits :math:`z`. Cross-entropy on logits *is* NLL on their log-softmax:
    the two parts are the same loss. Neither may be given probabilities.

    Args:
        log_probs: float [B, 10], of the digit.
        digit: int64 [B].
        logits: float [B, 19], of the sum.
        sum: int64 [B], or one-hot float [B, 19]. A one-hot sum is turned into its index first: its zeros
            would otherwise be multiplied with logits of −∞, and 0 · −∞ is not a number.
        digit_weight, sum_weight: of the two parts in the total.
        label_smoothing: share of the digit's target that is spread evenly over all ten digits (Szegedy et
            al. 2016, "Rethinking the Inception architecture", section 7).

    `ValueError` for shapes that do not fit together.
    """
    batch = log_probs.shape[:1]
    if digit.shape != batch or logits.shape[:1] != batch or sum.shape not in (batch, logits.shape):
        wanted = "log_probs [B, 10], digit [B], logits [B, 19] and sum [B] or [B, 19]"
        shapes = (str(list(tensor.shape)) for tensor in (log_probs, digit, logits, sum))
        raise ValueError(f"expected {wanted}; got {', '.join(shapes)}")
    sum_class = sum.argmax(1) if sum.dim() == 2 else sum  # [B, 19] → [B]
    digit_loss = F.nll_loss(log_probs, digit)
    if label_smoothing:
        digit_loss = torch.lerp(digit_loss, -log_probs.mean(), label_smoothing)
    sum_loss = F.cross_entropy(logits, sum_class)
    weighted = digit_loss if digit_weight == 1 else digit_weight * digit_loss
    return Losses(digit_loss, sum_loss, torch.add(weighted, sum_loss, alpha=sum_weight))
