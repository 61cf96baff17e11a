"""The softmax loss: a cross-entropy over all samples of the batch, real and fake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError
from gankit.losses.registry import LOSSES
from gankit.protocols import check_batch_statistic, check_same_batch


@LOSSES.register("softmax")
@dataclass(frozen=True)
class Softmax:
    """Softmax: D gathers the batch's probability on real samples, G spreads it evenly (Lin 2017, section 3).

    Formula, where `log Z` is the logsumexp of all real and fake logits of the batch (the paper's mu is -logit):

    - discriminator: `log Z - real_logits`
    - generator: `log Z - (real_logits + fake_logits) / 2`

    Their means are the cross-entropies of the softmax over the batch with the uniform distribution over the N real
    samples, and over all 2N samples; their minima are log N and log 2N nats.

    Example:
        >>> loss = Softmax()
        >>> loss.discriminator_loss(torch.tensor([100.0, 100.0]), torch.tensor([0.0, 0.0]))     # log 2
        tensor([0.6931, 0.6931])
        >>> loss.generator_loss(torch.zeros(2), torch.zeros(2))     # log 4
        tensor([1.3863, 1.3863])
    """

    needs_real_logits: ClassVar[bool] = True

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`; raise `ShapeError` if their shapes differ."""
        return _log_partition(real_logits, fake_logits) - real_logits

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each pair of logits, `(..., N)`; raise `BadArgumentsError` without `real_logits`."""
        if real_logits is None:
            raise BadArgumentsError("the generator's half of Softmax needs real_logits, the logits D(real), got None")
        return _log_partition(real_logits, fake_logits) - (real_logits + fake_logits) / 2


def _log_partition(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    check_same_batch(real_logits, fake_logits)
    check_batch_statistic(real_logits)
    return torch.logsumexp(torch.cat([real_logits, fake_logits], dim=-1), dim=-1, keepdim=True)
