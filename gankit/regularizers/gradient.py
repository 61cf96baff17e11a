"""Penalties on the gradient of the logits with respect to samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gankit.context import StepContext
from gankit.errors import BadArgumentsError, ShapeError, check_count, check_positive
from gankit.protocols import GradientInput, Half, check_same_batch
from gankit.regularizers.registry import REGULARIZERS


def squared_gradient_norm(logits: Tensor, samples: Tensor) -> Tensor:
    """Return each sample's squared gradient norm, `|d logits_i / d samples_i|^2`, in the logits' shape.

    The graph is kept, so that the result can be differentiated again. The sum over the batch gives each
    sample its own gradient as long as D does not mix samples (BatchNorm in D does, and is then penalised
    for the whole batch's logits).

    Args:
        logits: `(..., N)`, computed from `samples`.
        samples: `(..., N, *sample_shape)`, requiring a gradient.

    Raises:
        BadArgumentsError: for samples that require no gradient.

    Example:
        >>> x = torch.randn(4, 3, requires_grad=True)
        >>> squared_gradient_norm(x @ torch.tensor([1.0, 2.0, 2.0]), x)     # |w|^2 = 9
        tensor([9., 9., 9., 9.])
    """
    (gradient,) = _gradients([logits], [samples])
    return gradient.square().flatten(logits.ndim).sum(-1)


def gradient_norm(logits: Tensor, samples: Tensor) -> Tensor:
    """Return each sample's gradient norm, `|d logits_i / d samples_i|`, in the logits' shape.

    Where the gradient is exactly zero, the norm's own derivative is taken to be zero, never NaN. All else is
    as for `squared_gradient_norm`.

    Args:
        logits: `(..., N)`, computed from `samples`.
        samples: `(..., N, *sample_shape)`, requiring a gradient.

    Raises:
        BadArgumentsError: for samples that require no gradient.

    Example:
        >>> x = torch.randn(4, 3, requires_grad=True)
        >>> gradient_norm(x @ torch.tensor([1.0, 2.0, 2.0]), x)     # |w| = 3
        tensor([3., 3., 3., 3.])
    """
    (gradient,) = _gradients([logits], [samples])
    return lengths(gradient, logits.ndim)


def lengths(x: Tensor, batch_ndim: int) -> Tensor:
    """Return the Euclidean length of each sample of `x`; where it is 0, so is its derivative.

    Args:
        x: `(..., N, *sample_shape)`.
        batch_ndim: how many dimensions come before a sample's own.

    Example:
        >>> lengths(torch.full((2, 3, 3), 2.0), 1)
        tensor([6., 6.])
    """
    norm = torch.linalg.vector_norm(x.flatten(batch_ndim), dim=-1)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast(Tensor, norm)


def _gradients(logits: Sequence[Tensor], samples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not all(one.requires_grad for one in samples):
        raise BadArgumentsError(
            "this penalty differentiates with respect to samples that require no gradient; name them in "
            "StepContext(gradient_inputs=...), from the penalty's own gradient_inputs"
        )
    return torch.autograd.grad([one.sum() for one in logits], samples, create_graph=True)


def _interpolated(context: StepContext) -> Tensor:
    """Return one point between each real and its fake, by an epsilon of the sample's own."""
    real, fake = context.real.detach(), context.fake.detach()
    if real.shape != fake.shape:
        raise ShapeError(
            f"real and fake must have the same shape to be interpolated, got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    logits = context.logits("real")  # the loss's; their shape tells how many dimensions come before a sample's own
    epsilon = context.uniform_like(logits.detach()).to(real.dtype)
    epsilon = epsilon.reshape(*logits.shape, *[1] * (real.ndim - logits.ndim))
    return torch.lerp(fake, real, epsilon).requires_grad_()


@REGULARIZERS.register("r1")
@dataclass(frozen=True)
class R1:
    """R1: zero-centred gradient penalty on real samples (Mescheder et al. 2018, eq. 9).

    Formula: `weight / 2 * |grad_x D(x)|^2` at real x, D being the logit. It reuses the forward pass of the
    loss, so it costs a backward pass and no forward pass.

    Args:
        weight: gamma of the paper.
        every: apply in every `every`-th step, `every` times as strong (Karras et al. 2020, lazy
            regularization).

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 3.0)
        >>> context = StepContext(discriminator=D, real=torch.zeros(2, 2), gradient_inputs={"real"})
        >>> R1(weight=10.0)(context).detach()                              # 10 / 2 * (9 + 9)
        tensor([90., 90.])
    """

    weight: float = 10.0
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"real"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight / 2 * squared_gradient_norm(context.logits("real"), context.real)


@REGULARIZERS.register("r2")
@dataclass(frozen=True)
class R2:
    """R2: zero-centred gradient penalty on generated samples (Mescheder et al. 2018, eq. 10).

    Formula: `weight / 2 * |grad_x D(x)|^2` at x = G(z), without a gradient to G. It reuses the forward pass
    of the loss.

    Args:
        weight: gamma of the paper.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 3.0)
        >>> context = StepContext(discriminator=D, fake=torch.zeros(2, 2), gradient_inputs={"fake"})
        >>> R2(weight=10.0)(context).detach()                              # 10 / 2 * (9 + 9)
        tensor([90., 90.])
    """

    weight: float = 10.0
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"fake"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each fake, `(..., N)`."""
        return self.weight / 2 * squared_gradient_norm(context.logits("fake"), context.fake)


@REGULARIZERS.register("r1_r2")
@dataclass(frozen=True)
class R1R2:
    """R1 + R2: both zero-centred penalties in one backward pass (Huang et al. 2024, R3GAN, section 2).

    Formula: `weight / 2 * (|grad_x D(x)|^2 + |grad_y D(y)|^2)` at real x and fake y. It is the sum of `r1` and
    `r2`, with one call to autograd in place of two. It reuses both forward passes of the loss.

    Args:
        weight: gamma, the same for both.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.
        ShapeError: when called with another number of fakes than of real samples.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 3.0)
        >>> penalty = R1R2(weight=10.0)
        >>> x = torch.zeros(2, 2)
        >>> context = StepContext(discriminator=D, real=x, fake=x, gradient_inputs=penalty.gradient_inputs)
        >>> penalty(context).detach()                                      # 10 / 2 * (18 + 18)
        tensor([180., 180.])
    """

    weight: float = 10.0
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"real", "fake"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        logits = [context.logits("real"), context.logits("fake")]
        check_same_batch(*logits)
        real, fake = _gradients(logits, [context.real, context.fake])
        squares = real.square().flatten(logits[0].ndim).sum(-1) + fake.square().flatten(logits[0].ndim).sum(-1)
        return self.weight / 2 * squares


@REGULARIZERS.register("wasserstein_gradient_penalty")
@dataclass(frozen=True)
class WassersteinGradientPenalty:
    """WGAN-GP: gradient norm of 1 between real and fake (Gulrajani et al. 2017, eq. 3).

    Formula: `weight * (|grad_y D(y)| - 1)^2` at `y = e x + (1 - e) G(z)`, with an e of its own, uniform in
    [0, 1), for each sample. One-sided: `weight * max(0, |grad_y D(y)| - 1)^2`. It costs one more forward pass
    of D.

    The norm is each sample's own. BatchNorm in D would mix samples, so the paper leaves it out of the critic.

    Args:
        weight: lambda of the paper.
        one_sided: penalise only norms above 1 (the paper's section 4).
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.
        ShapeError: when called with real and fake of different shapes.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 1.5)                        # |w| = 3
        >>> context = StepContext(discriminator=D, real=torch.ones(2, 4), fake=torch.zeros(2, 4))
        >>> WassersteinGradientPenalty(weight=10.0)(context).detach()      # 10 * (3 - 1)^2
        tensor([40., 40.])
    """

    weight: float = 10.0
    one_sided: bool = False
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty at one point between each real sample and its fake, `(..., N)`."""
        samples = _interpolated(context)
        excess = gradient_norm(context.discriminate(samples), samples) - 1
        return self.weight * (F.relu(excess) if self.one_sided else excess).square()


@REGULARIZERS.register("dragan")
@dataclass(frozen=True)
class DRAGAN:
    """DRAGAN: gradient norm of 1 around real samples (Kodali et al. 2017, alg. 1).

    Formula: `weight * (|grad_y D(y)| - target)^2` at `y = x + noise`, x real, with normal noise whose standard
    deviation is `noise_scale` times the batch's own, over all its values. It costs one more forward pass of D.

    Args:
        weight: lambda of the paper.
        target: k of the paper, the norm that costs nothing.
        noise_scale: the noise's standard deviation, in standard deviations of the real batch; the square root
            of the paper's c, in those units.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, `target` or `noise_scale`, or `every` under 1.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 1.5)                        # |w| = 3
        >>> DRAGAN(weight=10.0)(StepContext(discriminator=D, real=torch.randn(2, 4))).detach()
        tensor([40., 40.])
    """

    weight: float = 10.0
    target: float = 1.0
    noise_scale: float = 0.5
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_positive("target", self.target, zero=True)
        check_positive("noise_scale", self.noise_scale, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty beside each real sample, `(..., N)`."""
        real = context.real.detach()
        own = tuple(range(context.logits("real").ndim - 1, real.ndim))  # all but the replicas
        deviation = real.std(dim=own, correction=0, keepdim=True)
        samples = (real + self.noise_scale * deviation * context.normal_like(real)).requires_grad_()
        return self.weight * (gradient_norm(context.discriminate(samples), samples) - self.target).square()


@REGULARIZERS.register("zero_centered_interpolated")
@dataclass(frozen=True)
class ZeroCenteredInterpolated:
    """Zero-centred penalty between real and fake: 0-GP (Thanh-Tung et al. 2019).

    Formula: `weight * |grad_y D(y)|^2` at `y = e x + (1 - e) G(z)`, with an e of its own, uniform in [0, 1), for
    each sample, D being the logit. It costs one more forward pass of D.

    Args:
        weight: lambda of the paper.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.
        ShapeError: when called with real and fake of different shapes.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 1.5)                        # |w|^2 = 9
        >>> context = StepContext(discriminator=D, real=torch.ones(2, 4), fake=torch.zeros(2, 4))
        >>> ZeroCenteredInterpolated(weight=10.0)(context).detach()
        tensor([90., 90.])
    """

    weight: float = 10.0
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty at one point between each real sample and its fake, `(..., N)`."""
        samples = _interpolated(context)
        return self.weight * squared_gradient_norm(context.discriminate(samples), samples)
