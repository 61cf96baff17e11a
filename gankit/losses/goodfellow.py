"""The two losses of Goodfellow et al. 2014, which share the discriminator's half.

With logits `l`, D(x) = sigmoid(l), so `-log D = softplus(-l)` and `-log(1 - D) = softplus(l)`. In this form value and
gradient are exact and finite, however far the logits are from zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gankit.errors import BadValueError
from gankit.losses.registry import LOSSES
from gankit.protocols import check_logits, check_same_batch


@LOSSES.register("minimax")
@dataclass(frozen=True)
class Minimax:
    """Minimax: G minimises the value that D maximises (Goodfellow et al. 2014, eq. 1).

    Formula, with V = log D(x) + log(1 - D(G(z))):

    - discriminator: `-V = softplus(-real_logits) + softplus(fake_logits)`
    - generator: `log(1 - D(G(z))) = -softplus(fake_logits)`

    At the optimal discriminator, the mean of V is `-log 4 + 2 JSD(data, model)`, in nats. Early in training the
    generator's gradient, `-sigmoid(fake_logits)`, is near zero, because D rejects the fakes with confidence.
    `non_saturating` avoids this.

    Args:
        label_smoothing: D's target for real samples is 1 minus this number s; its target for fakes stays 0
            (one-sided, Salimans et al. 2016, section 3.4). D's loss on real samples is then
            `(1 - s) softplus(-real_logits) + s softplus(real_logits)`.

    Raises:
        BadValueError: If `label_smoothing` is outside [0, 1).

    Example:
        >>> import torch
        >>> loss = Minimax()
        >>> loss.discriminator_loss(torch.zeros(2), torch.zeros(2))     # log 4
        tensor([1.3863, 1.3863])
        >>> loss.generator_loss(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([-0.0000e+00, -6.9315e-01, -1.0000e+04])
    """

    label_smoothing: float = 0.0
    needs_real_logits: ClassVar[bool] = False
    log_odds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise BadValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing!r}")

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`, 0 or more; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        loss = F.softplus(-real_logits) + F.softplus(fake_logits)
        # softplus(l) = softplus(-l) + l, so smoothing adds s l
        return loss + self.label_smoothing * real_logits if self.label_smoothing else loss

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`, 0 or less."""
        check_logits(fake_logits)
        return -F.softplus(fake_logits)


@LOSSES.register("non_saturating")
@dataclass(frozen=True)
class NonSaturating(Minimax):
    """Non-saturating: G maximises log D(G(z)) (Goodfellow et al. 2014, section 3, the heuristic).

    Formula:

    - discriminator: as for `minimax`
    - generator: `-log D(G(z)) = softplus(-fake_logits)`

    It has the same fixed point as `minimax`, and its gradient does not vanish where D rejects the fakes.

    Args:
        label_smoothing: See `minimax`.

    Example:
        >>> import torch
        >>> NonSaturating().generator_loss(torch.tensor([-1e4, 0.0, 1e4]))
        tensor([1.0000e+04, 6.9315e-01, 0.0000e+00])
    """

    @override
    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`, 0 or more."""
        check_logits(fake_logits)
        return F.softplus(-fake_logits)
