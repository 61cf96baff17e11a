"""Consistency penalties: an augmentation of a sample should not change its logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from gankit.augmentations import Augmentation, AugmentationRef, build_augmentation
from gankit.context import StepContext
from gankit.protocols import Source, check_same_batch
from gankit.regularizers.penalty import Penalty
from gankit.regularizers.registry import REGULARIZERS


class _ConsistencyPenalty(Penalty):
    """A penalty with an augmentation, which it builds once."""

    augment: AugmentationRef
    _built: Augmentation

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_built", build_augmentation(self.augment))  # the dataclasses are frozen

    def _squared_change(self, context: StepContext, which: Source) -> Tensor:
        """Return `(D(x) - D(T(x)))^2` of each real sample or of each fake, `(..., N)`."""
        samples = context.real if which == "real" else context.fake
        changed = context.changed(samples.detach(), self._built)
        pairs = zip(context.heads(which), context.heads(changed), strict=True)
        return context.per_sample(which, [(before - after).square() for before, after in pairs])


@REGULARIZERS.register("consistency")
@dataclass(frozen=True)
class Consistency(_ConsistencyPenalty):
    """Consistency: an augmentation should not change D's logits of real samples (Zhang et al. 2020, CR-GAN).

    Formula: `weight * (D(x) - D(T(x)))^2` at real x, where T is the augmentation. The gradient flows through both
    terms. The penalty reuses the D(x) of the loss and costs one more forward pass of D.

    Args:
        weight: The paper's lambda.
        augment: T: a name in `AUGMENTATIONS`, a `Spec`, or a callable `augment(x, *, generator)`.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1.
        UnknownNameError: If no augmentation has the given name.
        BadArgumentsError: If `augment` cannot be called.

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

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight * self._squared_change(context, "real")


@REGULARIZERS.register("balanced_consistency")
@dataclass(frozen=True)
class BalancedConsistency(_ConsistencyPenalty):
    """Balanced consistency: an augmentation should not change any of D's logits, real or fake (Zhao et al. 2021, bCR).

    Formula: `real_weight * (D(x) - D(T(x)))^2 + fake_weight * (D(y) - D(T(y)))^2` at real x and y = G(z), where T is
    the augmentation, drawn independently for each sample. G receives no gradient. The penalty reuses both logits of
    the loss and costs two more forward passes of D.

    Args:
        real_weight: The paper's lambda_real.
        fake_weight: The paper's lambda_fake.
        augment: T: a name in `AUGMENTATIONS`, a `Spec`, or a callable `augment(x, *, generator)`.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If a weight is negative or `every` is less than 1.
        UnknownNameError: If no augmentation has the given name.
        BadArgumentsError: If `augment` cannot be called.

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
    weights: ClassVar[tuple[str, ...]] = ("real_weight", "fake_weight")

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        real, fake = self._squared_change(context, "real"), self._squared_change(context, "fake")
        check_same_batch(real, fake)
        return self.real_weight * real + self.fake_weight * fake
