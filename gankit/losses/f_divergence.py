"""The f-GAN losses: variational bounds of f-divergences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from gankit.errors import BadValueError
from gankit.losses.registry import LOSSES
from gankit.protocols import check_logits, check_same_batch

Divergence: TypeAlias = Literal[
    "kl", "reverse_kl", "pearson_chi2", "squared_hellinger", "jensen_shannon", "gan", "total_variation"
]


_Function: TypeAlias = Callable[[Tensor], Tensor]
_LOG_2 = math.log(2)


def _negative_exp(v: Tensor) -> Tensor:
    return -torch.exp(-v)


def _half_tanh(v: Tensor) -> Tensor:
    return torch.tanh(v) / 2


def _identity(v: Tensor) -> Tensor:
    return v


def _pearson_conjugate(t: Tensor) -> Tensor:
    return t.square() / 4 + t


# Nowozin et al. 2016, table 2: the activation g, the conjugate f*, and f*(g(v)) in a form that keeps the precision
# which the composition of the two would lose
_DIVERGENCES: dict[str, tuple[_Function, _Function, _Function]] = {
    "kl": (_identity, lambda t: torch.exp(t - 1), lambda v: torch.exp(v - 1)),
    "reverse_kl": (_negative_exp, lambda t: -1 - torch.log(-t), lambda v: v - 1),
    "pearson_chi2": (_identity, _pearson_conjugate, _pearson_conjugate),
    "squared_hellinger": (lambda v: -torch.expm1(-v), lambda t: t / (1 - t), torch.expm1),
    "jensen_shannon": (
        lambda v: _LOG_2 - F.softplus(-v),
        lambda t: -torch.log(2 - torch.exp(t)),
        lambda v: F.softplus(v) - _LOG_2,
    ),
    "gan": (lambda v: -F.softplus(-v), lambda t: -torch.log(-torch.expm1(t)), F.softplus),
    "total_variation": (_half_tanh, _identity, _half_tanh),
}


@LOSSES.register("f_divergence")
@dataclass(frozen=True)
class FDivergence:
    """f-GAN: the variational bound of an f-divergence between data P and model Q (Nowozin et al. 2016, table 2).

    Formula, where g is the divergence's output activation and f* its conjugate:

    - discriminator: `-(g(real_logits) - f*(g(fake_logits)))`
    - generator: `-f*(g(fake_logits))`, or `-g(fake_logits)` with `non_saturating`

    At the optimal discriminator, the negated mean of the discriminator's loss is the divergence D(P, Q) as the paper
    defines it, in nats if it has a unit:

    | divergence | D(P, Q) | g(v) | f*(t) |
    |---|---|---|---|
    | `kl` | sum p log(p / q) | v | exp(t - 1) |
    | `reverse_kl` | sum q log(q / p) | -exp(-v) | -1 - log(-t) |
    | `pearson_chi2` | sum (p - q)^2 / q | v | t^2 / 4 + t |
    | `squared_hellinger` | sum (sqrt p - sqrt q)^2 | 1 - exp(-v) | t / (1 - t) |
    | `jensen_shannon` | 2 JSD (twice the usual half sum) | log 2 - softplus(-v) | -log(2 - exp t) |
    | `gan` | 2 JSD - log 4 | -softplus(-v) | -log(1 - exp t) |
    | `total_variation` | sum abs(p - q) / 2 | tanh(v) / 2 | t |

    The exponentials of `kl`, `reverse_kl` and `squared_hellinger` overflow for logits far from zero (beyond about 88
    in float32). They are not clamped, because a clamped value would have no gradient.

    Args:
        divergence: The name of the divergence.
        non_saturating: Let G maximise g(D(G(z))) instead of minimising the bound.

    Raises:
        BadValueError: If the divergence is unknown.

    Example:
        >>> loss = FDivergence("gan")
        >>> loss.discriminator_loss(torch.zeros(1), torch.zeros(1))     # log 4, as for minimax
        tensor([1.3863])
    """

    divergence: Divergence = "jensen_shannon"
    non_saturating: bool = False
    needs_real_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.divergence not in _DIVERGENCES:
            raise BadValueError(f"divergence must be one of {', '.join(_DIVERGENCES)}, got {self.divergence!r}")

    @property
    def log_odds(self) -> bool:
        """Whether sigmoid(logit) is D's probability of "real", which holds for `gan` and `jensen_shannon`."""
        return self.divergence in ("gan", "jensen_shannon")

    def activation(self, logits: Tensor) -> Tensor:
        """Return g of the logits, which lies in the domain of the conjugate."""
        return _DIVERGENCES[self.divergence][0](logits)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return f*, the convex conjugate, of values that `activation` returned."""
        return _DIVERGENCES[self.divergence][1](t)

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return _DIVERGENCES[self.divergence][2](fake_logits) - self.activation(real_logits)

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`."""
        check_logits(fake_logits)
        if self.non_saturating:
            return -self.activation(fake_logits)
        return -_DIVERGENCES[self.divergence][2](fake_logits)
