"""Losses of a critic, whose logits are scores on an arbitrary scale rather than log-odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gankit.errors import check_finite, check_positive
from gankit.losses.registry import LOSSES
from gankit.protocols import check_logits, check_same_batch


@LOSSES.register("wasserstein")
@dataclass(frozen=True)
class Wasserstein:
    """Wasserstein: the critic's mean on fakes minus its mean on real samples (Arjovsky et al. 2017, eq. 2 and alg. 1).

    Formula:

    - discriminator: `fake_logits - real_logits`
    - generator: `-fake_logits`

    The mean of the discriminator's loss, negated, estimates the Wasserstein-1 distance times the critic's Lipschitz
    constant. That constant must be bounded: by `weight_clipping`, `wasserstein_gradient_penalty`, or spectral
    normalisation.

    Example:
        >>> import torch
        >>> Wasserstein().discriminator_loss(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor([-2.])
    """

    needs_real_logits: ClassVar[bool] = False

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return fake_logits - real_logits

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`."""
        check_logits(fake_logits)
        return -fake_logits


@LOSSES.register("hinge")
@dataclass(frozen=True)
class Hinge(Wasserstein):
    """Hinge: a margin of 1 on each side of zero (Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17).

    Formula:

    - discriminator: `max(0, 1 - real_logits) + max(0, 1 + fake_logits)`
    - generator: `-fake_logits`, or with `clipped_generator` `max(0, 1 - fake_logits)`, as EnCodec has it (Défossez et
      al. 2022, section 3.4)

    With the clipped half, a fake with a logit above 1 gives G no gradient.

    Args:
        clipped_generator: Whether the generator's half has a margin too.

    Example:
        >>> import torch
        >>> Hinge().discriminator_loss(torch.tensor([0.0, 2.0]), torch.tensor([0.0, -2.0]))
        tensor([2., 0.])
        >>> Hinge(clipped_generator=True).generator_loss(torch.tensor([0.0, 2.0]))
        tensor([1., 0.])
    """

    clipped_generator: bool = False

    @override
    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`, 0 or more; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return F.relu(1 - real_logits) + F.relu(1 + fake_logits)

    @override
    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`."""
        if not self.clipped_generator:
            return super().generator_loss(fake_logits)
        check_logits(fake_logits)
        return F.relu(1 - fake_logits)


@LOSSES.register("energy_based")
@dataclass(frozen=True)
class EnergyBased(Wasserstein):
    """Energy-based: low energy for real samples, at least the margin for fakes (Zhao et al. 2016, eq. 1 and 2).

    Formula, with the energy E = -logit:

    - discriminator: `E(x) + max(0, margin - E(G(z)))`
    - generator: `E(G(z))`, as for `wasserstein`

    The discriminator to use with it is `autoencoder`, whose logit is the negated reconstruction error, so that the
    energy is never negative.

    Args:
        margin: The paper's m, in units of energy.

    Raises:
        BadValueError: If `margin` is not positive.

    Example:
        >>> import torch
        >>> EnergyBased(margin=10.0).discriminator_loss(torch.tensor([-1.0]), torch.tensor([-4.0]))     # 1 + (10 - 4)
        tensor([7.])
    """

    margin: float = 10.0

    def __post_init__(self) -> None:
        check_positive("margin", self.margin)

    @override
    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return F.relu(self.margin + fake_logits) - real_logits


@LOSSES.register("least_squares")
@dataclass(frozen=True)
class LeastSquares:
    """Least squares: pulls each logit toward a target (Mao et al. 2017, eq. 2; targets of eq. 9).

    Formula:

    - discriminator: `(real_logits - b)^2 / 2 + (fake_logits - a)^2 / 2`
    - generator: `(fake_logits - c)^2 / 2`

    If `b - c = 1` and `b - a = 2` (as with a = -1, b = 1, c = 0, eq. 8), the generator's half plus
    `(real_logits - c)^2 / 2` is, at the optimal discriminator, half the Pearson chi^2 divergence between
    data + model and twice the model.

    Args:
        a: D's target for the logits of fakes.
        b: D's target for the logits of real samples.
        c: G's target for the logits of fakes.

    Raises:
        BadValueError: If a target is not finite.

    Example:
        >>> import torch
        >>> LeastSquares().discriminator_loss(torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([1.])
    """

    a: float = 0.0
    b: float = 1.0
    c: float = 1.0
    needs_real_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            check_finite(name, getattr(self, name))

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`, 0 or more; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return (real_logits - self.b).square() / 2 + (fake_logits - self.a).square() / 2

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each fake logit, `(..., N)`, 0 or more."""
        check_logits(fake_logits)
        return (fake_logits - self.c).square() / 2
