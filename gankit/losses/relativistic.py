"""Relativistic losses, in which D judges whether a real sample is more realistic than a fake one.

The generator's half of each is the discriminator's half with real and fake exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gankit.errors import BadArgumentsError
from gankit.losses.registry import LOSSES
from gankit.protocols import check_batch_statistic, check_same_batch


@LOSSES.register("relativistic")
@dataclass(frozen=True)
class Relativistic:
    """Relativistic pairing, RSGAN and RpGAN (Jolicoeur-Martineau 2018, section 4.1; R3GAN, Huang et al. 2024).

    Formula, in which the i-th real sample is paired with the i-th fake:

    - discriminator: `softplus(fake_logits - real_logits)`
    - generator: `softplus(real_logits - fake_logits)`

    R3GAN combines it with the penalty `r1_r2`.

    Example:
        >>> import torch
        >>> Relativistic().discriminator_loss(torch.tensor([0.0, 50.0]), torch.tensor([0.0, 0.0]))
        tensor([6.9315e-01, 1.9287e-22])
    """

    needs_real_logits: ClassVar[bool] = True

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`, 0 or more; raise `ShapeError` if their shapes differ."""
        check_same_batch(real_logits, fake_logits)
        return F.softplus(fake_logits - real_logits)

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each pair of logits, `(..., N)`; raise `BadArgumentsError` without `real_logits`."""
        return self.discriminator_loss(fake_logits, self._given(real_logits))

    def _given(self, real_logits: Tensor | None) -> Tensor:
        if real_logits is None:
            raise BadArgumentsError(
                f"the generator's half of {type(self).__name__} needs real_logits, the logits D(real), got None"
            )
        return real_logits


@LOSSES.register("relativistic_average")
@dataclass(frozen=True)
class RelativisticAverage(Relativistic):
    """Relativistic average, RaSGAN (Jolicoeur-Martineau 2018, section 4.3).

    Formula, with means over the batch:

    - discriminator: `softplus(-(real_logits - mean(fake_logits))) + softplus(fake_logits - mean(real_logits))`
    - generator: the same with real and fake exchanged

    Args:
        detach_means: Whether the two means are constants in the gradient of D's half, as in BasicSR's code of ESRGAN.
            The value of the loss and the generator's half stay the same.

    Example:
        >>> import torch
        >>> RelativisticAverage().discriminator_loss(torch.zeros(2), torch.zeros(2))     # log 4
        tensor([1.3863, 1.3863])
    """

    detach_means: bool = False

    @override
    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss of each pair of logits, `(..., N)`, 0 or more; raise `ShapeError` if their shapes differ."""
        return self._of_differences(*_relative(real_logits, fake_logits, self.detach_means))

    @override
    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return G's loss of each pair of logits, `(..., N)`; raise `BadArgumentsError` without `real_logits`."""
        return self._of_differences(*_relative(fake_logits, self._given(real_logits)))

    def _of_differences(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real) + F.softplus(fake)


@LOSSES.register("relativistic_average_least_squares")
@dataclass(frozen=True)
class RelativisticAverageLeastSquares(RelativisticAverage):
    """Relativistic average least squares, RaLSGAN (Jolicoeur-Martineau 2018, appendix).

    Formula, with means over the batch:

    - discriminator: `(real_logits - mean(fake_logits) - 1)^2 + (fake_logits - mean(real_logits) + 1)^2`
    - generator: the same with real and fake exchanged

    Args:
        detach_means: Whether the two means are constants in the gradient of D's half.

    Example:
        >>> import torch
        >>> RelativisticAverageLeastSquares().discriminator_loss(torch.ones(2), torch.zeros(2))
        tensor([0., 0.])
    """

    @override
    def _of_differences(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - 1).square() + (fake + 1).square()


@LOSSES.register("relativistic_average_hinge")
@dataclass(frozen=True)
class RelativisticAverageHinge(RelativisticAverage):
    """Relativistic average hinge, RaHingeGAN (Jolicoeur-Martineau 2018, appendix).

    Formula, with means over the batch:

    - discriminator: `max(0, 1 - (real_logits - mean(fake_logits))) + max(0, 1 + (fake_logits - mean(real_logits)))`
    - generator: the same with real and fake exchanged

    Args:
        detach_means: Whether the two means are constants in the gradient of D's half.

    Example:
        >>> import torch
        >>> RelativisticAverageHinge().discriminator_loss(torch.ones(2), torch.zeros(2))
        tensor([0., 0.])
    """

    @override
    def _of_differences(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real) + F.relu(1 + fake)


def _relative(real_logits: Tensor, fake_logits: Tensor, detach_means: bool = False) -> tuple[Tensor, Tensor]:
    """Subtract from each logit the mean of the logits of the other side."""
    check_same_batch(real_logits, fake_logits)
    check_batch_statistic(real_logits)
    real_mean, fake_mean = (logits.mean(-1, keepdim=True) for logits in (real_logits, fake_logits))
    if detach_means:
        real_mean, fake_mean = real_mean.detach(), fake_mean.detach()
    return real_logits - fake_mean, fake_logits - real_mean
