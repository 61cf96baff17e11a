"""The softmax loss: one cross-entropy over the whole batch, real and fake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError
from gankit.losses.registry import LOSSES
from gankit.protocols import check_same_batch


@LOSSES.register("softmax")
@dataclass(frozen=True)
class Softmax:
    """Softmax: the batch's probability to the real half, then to both halves alike (Lin 2017, section 3).

    Formula, with `log Z = logsumexp(real_logits and fake_logits)` over the batch (the paper's mu is -logit):

    - discriminator: `log Z - real_logits`
    - generator: `log Z - (real_logits + fake_logits) / 2`

    Their means are the cross-entropies of the batch's softmax with the uniform distribution over the N real
    samples, and over all 2N; the least values are log N and log 2N nats.

    Example:
        >>> loss = Softmax()
        >>> loss.discriminator_loss(torch.tensor([100.0, 100.0]), torch.tensor([0.0, 0.0]))     # log 2
        tensor([0.6931, 0.6931])
        >>> loss.generator_loss(torch.zeros(2), torch.zeros(2))     # log 4
        tensor([1.3863, 1.3863])
    """

    needs_real_logits: ClassVar[bool] = True

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`(..., N)` and `(..., N)` in, `(..., N)` out; `ShapeError` for unequal shapes."""
        return _log_partition(real_logits, fake_logits) - real_logits

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """`(..., N)` and `(..., N)` in, `(..., N)` out; `BadArgumentsError` without the real logits."""
        if real_logits is None:
            raise BadArgumentsError("the generator's half of Softmax compares with real_logits, got None; give D(real)")
        return _log_partition(real_logits, fake_logits) - (real_logits + fake_logits) / 2


def _log_partition(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    check_same_batch(real_logits, fake_logits)
    return torch.logsumexp(torch.cat([real_logits, fake_logits], dim=-1), dim=-1, keepdim=True)
