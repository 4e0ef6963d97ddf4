"""The combined loss of the two outputs."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """Scalars, each a mean over the batch, in nats: a guess among ten classes costs ln 10 = 2.3."""

    digit: Tensor
    sum: Tensor
    total: Tensor


def total_loss(
    log_probs: Tensor,
    digit: Tensor,
    logits: Tensor,
    sum: Tensor,
    *,
    digit_weight: float = 1.0,
    sum_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Losses:
    """Return the negative log-likelihood of the digit plus the cross-entropy of the sum.

    For each sample, the digit's loss is ``-log_probs[digit]``, and the sum's loss is
    ``-log_softmax(logits)[sum]``: the same loss for two kinds of input. Do not give probabilities
    to either: cross-entropy would take the softmax a second time, and the gradient would be many
    times smaller.

    Args:
        log_probs: float [B, 10], of the digit.
        digit: the classes, int64 [B].
        logits: float [B, 19], of the sum; all finite.
        sum: float [B, 19], one-hot or any distribution over the sums; or the classes, int64 [B].
        digit_weight, sum_weight: the factors of the two parts in the total.
        label_smoothing: the share of the digit's label that is spread evenly over all ten digits
            (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7).
    """
    digit_loss = F.nll_loss(log_probs, digit)
    if label_smoothing > 0:
        even_loss = -log_probs.mean()  # of a label that is spread evenly over all digits
        digit_loss = (1 - label_smoothing) * digit_loss + label_smoothing * even_loss
    sum_loss = F.cross_entropy(logits, sum)
    total = digit_weight * digit_loss + sum_weight * sum_loss
    return Losses(digit_loss, sum_loss, total)
