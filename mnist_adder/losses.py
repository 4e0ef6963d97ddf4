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
    digit_log_probabilities: Tensor,
    digit: Tensor,
    sum_scores: Tensor,
    sum: Tensor,
    *,
    digit_weight: float = 1.0,
    sum_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Losses:
    r"""Negative log-likelihood of the digit plus cross-entropy of the sum.

    With log-probabilities :math:`\ell` for the digit and scores :math:`z` for the sum,

    .. math::
        \mathrm{NLL} = -\frac1B \sum_b \ell_{b,\,\mathrm{digit}_b}, \qquad
        \mathrm{CE} = -\frac1B \sum_b \Big(z_{b,\,\mathrm{sum}_b} - \log\sum_{s=0}^{18} e^{z_{b,s}}\Big).

    Cross-entropy on scores *is* NLL on their log-softmax: the two parts are the same loss, one taken where
    log-probabilities already exist, the other on raw scores. Neither may be given probabilities.

    Args:
        digit_log_probabilities: float [B, 10].
        digit: int64 [B].
        sum_scores: float [B, 19], unnormalised.
        sum: int64 [B], or one-hot float [B, 19]. A one-hot sum is turned into its index first: multiplied
            out, its zeros would meet scores of −∞, and 0 · −∞ is not a number.
        digit_weight, sum_weight: of the two parts in the total.
        label_smoothing: share of the digit's target that is spread evenly over all ten (Szegedy et al. 2016,
            "Rethinking the Inception architecture", section 7).

    Raises:
        ValueError: shapes that do not fit together.
    """
    shapes = (list(t.shape) for t in (digit_log_probabilities, digit, sum_scores, sum))
    log_shape, digit_shape, score_shape, sum_shape = shapes
    batch = [len(digit_log_probabilities)]
    if digit_shape != batch or score_shape[:1] != batch or sum_shape not in (batch, score_shape):
        raise ValueError(
            "expected digit_log_probabilities [B, 10], digit [B], sum_scores [B, 19] and sum [B] or "
            f"[B, 19]; got {log_shape}, {digit_shape}, {score_shape} and {sum_shape}"
        )
    sum_class = sum.argmax(1) if sum.dim() == 2 else sum
    digit_loss = F.nll_loss(digit_log_probabilities, digit)
    if label_smoothing:
        digit_loss = torch.lerp(digit_loss, -digit_log_probabilities.mean(), label_smoothing)
    sum_loss = F.cross_entropy(sum_scores, sum_class)
    return Losses(digit_loss, sum_loss, digit_weight * digit_loss + sum_weight * sum_loss)
