"""Penalties on what an augmentation does to the logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from gankit.augmentations import Augmentation, AugmentationRef, build_augmentation
from gankit.context import StepContext
from gankit.errors import check_count, check_positive
from gankit.protocols import GradientInput, Half, Source, check_same_batch
from gankit.regularizers.registry import REGULARIZERS


def _change(context: StepContext, which: Source, augment: Augmentation) -> Tensor:
    """Return `D(x) - D(T(x))` on the real or the fake samples."""
    samples = context.real if which == "real" else context.fake
    changed = context.changed(samples.detach(), augment)
    return context.logits(which) - context.discriminate(changed)


@REGULARIZERS.register("consistency")
@dataclass(frozen=True)
class Consistency:
    """Consistency: D's logit of a real sample survives an augmentation (Zhang et al. 2020, CR-GAN).

    Formula: `weight * (D(x) - D(T(x)))^2` at real x, T being the augmentation. The gradient goes through both
    terms. It reuses D(x) of the loss and costs one more forward pass of D.

    Args:
        weight: lambda of the paper.
        augment: T: a name in `AUGMENTATIONS`, a `Spec`, or a callable `augment(x, *, generator)`.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.
        UnknownNameError: for the name of no augmentation.
        BadArgumentsError: for an `augment` that cannot be called.

    Example:
        >>> import torch
        >>> D = torch.nn.Flatten(0)                                        # D(x) = x
        >>> double = Consistency(weight=10.0, augment=lambda x, *, generator: 2 * x)
        >>> double(StepContext(discriminator=D, real=torch.tensor([[0.0], [3.0]])))
        tensor([ 0., 90.])
    """

    weight: float = 10.0
    augment: AugmentationRef = "translation"
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()
    _augment: Augmentation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)
        object.__setattr__(self, "_augment", build_augmentation(self.augment))

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight * _change(context, "real", self._augment).square()


@REGULARIZERS.register("balanced_consistency")
@dataclass(frozen=True)
class BalancedConsistency:
    """Balanced consistency: D's logits of real and fake samples survive an augmentation (Zhao et al. 2021, bCR).

    Formula: `real_weight * (D(x) - D(T(x)))^2 + fake_weight * (D(y) - D(T(y)))^2` at real x and y = G(z), T being
    the augmentation, drawn anew for each sample. G gets no gradient. It reuses both logits of the loss and
    costs two more forward passes of D.

    Args:
        real_weight: lambda_real of the paper.
        fake_weight: lambda_fake of the paper.
        augment: T: a name in `AUGMENTATIONS`, a `Spec`, or a callable `augment(x, *, generator)`.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative weight, or `every` under 1.
        UnknownNameError: for the name of no augmentation.
        BadArgumentsError: for an `augment` that cannot be called.

    Example:
        >>> import torch
        >>> D = torch.nn.Flatten(0)                                        # D(x) = x
        >>> double = BalancedConsistency(augment=lambda x, *, generator: 2 * x)
        >>> double(StepContext(discriminator=D, real=torch.tensor([[1.0]]), fake=torch.tensor([[3.0]])))
        tensor([100.])
    """

    real_weight: float = 10.0
    fake_weight: float = 10.0
    augment: AugmentationRef = "translation"
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()
    _augment: Augmentation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive("real_weight", self.real_weight, zero=True)
        check_positive("fake_weight", self.fake_weight, zero=True)
        check_count("every", self.every)
        object.__setattr__(self, "_augment", build_augmentation(self.augment))

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        real, fake = _change(context, "real", self._augment), _change(context, "fake", self._augment)
        check_same_batch(real, fake)
        return self.real_weight * real.square() + self.fake_weight * fake.square()
