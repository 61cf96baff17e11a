"""Penalties on the gradient of the logits with respect to samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gankit.answers import Answer, Reduction, widened
from gankit.context import StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_positive
from gankit.protocols import GradientInput, Source, check_same_batch
from gankit.regularizers.penalty import Penalty
from gankit.regularizers.registry import REGULARIZERS


def squared_gradient_norm(logits: Tensor, samples: Tensor) -> Tensor:
    """Return each sample's squared gradient norm, `|d logits_i / d samples_i|^2`, in the shape of the logits.

    The result can be differentiated again. The gradient is computed from the sum of the logits, so it is each
    sample's own only if D does not mix samples. BatchNorm in D does; a sample's gradient is then that of all logits
    of the batch.

    Args:
        logits: Logits `(..., N)` that were computed from `samples`.
        samples: Samples `(..., N, *sample_shape)` that require a gradient.

    Raises:
        BadArgumentsError: If the samples do not require a gradient.

    Example:
        >>> x = torch.randn(4, 3, requires_grad=True)
        >>> squared_gradient_norm(x @ torch.tensor([1.0, 2.0, 2.0]), x)     # |w|^2 = 9
        tensor([9., 9., 9., 9.])
    """
    (gradient,) = _gradients([logits], [samples])
    return gradient.square().flatten(logits.ndim).sum(-1)


def gradient_norm(logits: Tensor, samples: Tensor) -> Tensor:
    """Return each sample's gradient norm, `|d logits_i / d samples_i|`, in the shape of the logits.

    Where the gradient is exactly zero, the derivative of the norm is zero, not NaN. Otherwise see
    `squared_gradient_norm`.

    Args:
        logits: Logits `(..., N)` that were computed from `samples`.
        samples: Samples `(..., N, *sample_shape)` that require a gradient.

    Raises:
        BadArgumentsError: If the samples do not require a gradient.

    Example:
        >>> x = torch.randn(4, 3, requires_grad=True)
        >>> gradient_norm(x @ torch.tensor([1.0, 2.0, 2.0]), x)     # |w| = 3
        tensor([3., 3., 3., 3.])
    """
    (gradient,) = _gradients([logits], [samples])
    return lengths(gradient, logits.ndim)


def lengths(x: Tensor, batch_ndim: int) -> Tensor:
    """Return the Euclidean norm of each sample of `x`; where the norm is 0, its derivative is 0 too.

    Args:
        x: Samples, `(..., N, *sample_shape)`.
        batch_ndim: The number of dimensions before those of one sample.

    Example:
        >>> lengths(torch.full((2, 3, 3), 2.0), 1)
        tensor([6., 6.])
    """
    norm = torch.linalg.vector_norm(x.flatten(batch_ndim), dim=-1)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast(Tensor, norm)


def _gradients(logits: Sequence[Tensor], samples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not all(one.requires_grad for one in samples):
        raise BadArgumentsError(
            "the samples of a gradient penalty must require a gradient, got samples that do not; make the context as "
            "StepContext(..., gradient_inputs=penalty.gradient_inputs)"
        )
    gradients = torch.autograd.grad([one.sum() for one in logits], samples, create_graph=True)
    return tuple(widened(one) for one in gradients)  # of samples in half precision


def _interpolated(context: StepContext) -> Tensor:
    """Return a random point between each real sample and its fake, `(..., N, *sample_shape)`."""
    real, fake = context.real.detach(), context.fake.detach()
    if real.shape != fake.shape:
        raise ShapeError(
            f"real and fake must have the same shape to be interpolated, got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    # the loss needs these logits anyway, in whose type one number is drawn for each sample
    logits = context.heads("real")[0].detach()
    if logits.shape != context.batch_shape:
        logits = logits.new_empty(context.batch_shape)
    epsilon = context.uniform_like(logits).to(real.dtype)
    epsilon = epsilon.reshape(*epsilon.shape, *[1] * (real.ndim - epsilon.ndim))
    return torch.lerp(fake, real, epsilon).requires_grad_()


class _GradientPenalty(Penalty):
    """A penalty on the gradient of one number per sample: the mean or the sum of its judgements."""

    reduction: Reduction

    @override
    def check_arguments(self) -> None:
        """Raise `BadValueError` if a weight is negative, `every` is less than 1, or the reduction is unknown."""
        super().check_arguments()
        if self.reduction not in ("mean", "sum"):
            raise BadValueError(f"reduction must be 'mean' or 'sum', got {self.reduction!r}")

    def _logits(self, context: StepContext, which: Source | Tensor) -> Tensor:
        """Return the number of each sample that is differentiated, `(..., N)`."""
        return context.sample_logits(which, self.reduction)


class _ZeroCentered(_GradientPenalty):
    """A penalty on the squared gradient norm at the samples themselves, exact or by a finite difference."""

    weight: float
    sigma: float | None

    @override
    def check_arguments(self) -> None:
        """Raise `BadValueError` if a number is negative, `every` is less than 1, or the reduction is unknown."""
        super().check_arguments()
        if self.sigma is not None:
            check_positive("sigma", self.sigma)
            # nothing is differentiated with respect to a sample; the dataclass is frozen
            object.__setattr__(self, "gradient_inputs", frozenset[GradientInput]())

    def _square(self, context: StepContext, which: Source) -> Tensor:
        """Return the squared gradient norm of each real or fake sample, `(..., N)`."""
        if self.sigma is not None:
            return self._squared_slope(context, which, self.sigma)
        return squared_gradient_norm(self._logits(context, which), context.real if which == "real" else context.fake)

    def _squared_slope(self, context: StepContext, which: Source, sigma: float) -> Tensor:
        """Return the squared slope of the logit along random noise, whose expectation is the squared norm."""
        samples = (context.real if which == "real" else context.fake).detach()
        kind = samples.device.type
        if not torch.is_autocast_enabled(kind):
            self._check_precision(context.answer(which))
            here = self._logits(context, which)
            there = context.judge(samples + sigma * context.normal_like(samples), which)
        else:
            # the pass of the loss has rounded its logits, and rounding errors are divided by sigma
            with torch.autocast(kind, enabled=False):
                samples = widened(samples)
                at_sample = context.judge(samples, which)
                self._check_precision(at_sample.answer)
                here = at_sample.per_sample(context.head_weights, self.reduction)
                there = context.judge(samples + sigma * context.normal_like(samples), which)
        return ((there.per_sample(context.head_weights, self.reduction) - here) / sigma).square()

    @staticmethod
    def _check_precision(answer: Answer) -> None:
        number = answer.heads[0].dtype
        if number in (torch.bfloat16, torch.float16):
            raise BadArgumentsError(
                f"sigma needs a discriminator whose logits are float32 or wider, got {number}, whose rounding errors "
                "would be divided by sigma"
            )


@REGULARIZERS.register("r1")
@dataclass(frozen=True)
class R1(_ZeroCentered):
    """R1: zero-centred gradient penalty on real samples (Mescheder et al. 2018, eq. 9).

    Formula: `weight / 2 * |grad_x D(x)|^2` at real x, where D is the logit. It reuses the forward pass of the loss,
    so it costs a backward pass but no forward pass.

    With `sigma`, the gradient is replaced by a finite difference, `weight / 2 * ((D(x + sigma n) - D(x)) / sigma)^2`
    with standard normal noise n. This is the approximated R1 of Lin et al. 2025 ("Diffusion adversarial
    post-training"), whose lambda is `weight / (2 sigma^2)`. Its expectation over n is the exact penalty plus a term of
    the order of sigma squared. It serves networks without a second derivative, such as fused attention and FSDP, and
    costs a forward pass. Under autocast it costs two, because the difference is taken in float32.

    Args:
        weight: The paper's gamma.
        every: Apply the penalty only in every `every`-th step, `every` times as strong (Karras et al. 2020, lazy
            regularization).
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.
        sigma: The length of a finite difference in units of the samples, such as 0.01, in place of the exact gradient.
            None differentiates.

    Raises:
        BadValueError: If `weight` is negative, `every` is less than 1, or `sigma` is not positive.

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
    reduction: Reduction = "mean"
    sigma: float | None = None
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"real"})

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight / 2 * self._square(context, "real")


@REGULARIZERS.register("r2")
@dataclass(frozen=True)
class R2(_ZeroCentered):
    """R2: zero-centred gradient penalty on generated samples (Mescheder et al. 2018, eq. 10).

    Formula: `weight / 2 * |grad_x D(x)|^2` at x = G(z), where D is the logit. G receives no gradient. It reuses the
    forward pass of the loss.

    Args:
        weight: The paper's gamma.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.
        sigma: The length of a finite difference in units of the samples, in place of the exact gradient; see `r1`.

    Raises:
        BadValueError: If `weight` is negative, `every` is less than 1, or `sigma` is not positive.

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
    reduction: Reduction = "mean"
    sigma: float | None = None
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"fake"})

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each fake, `(..., N)`."""
        return self.weight / 2 * self._square(context, "fake")


@REGULARIZERS.register("r1_r2")
@dataclass(frozen=True)
class R1R2(_ZeroCentered):
    """R1 + R2: both zero-centred penalties in one backward pass (Huang et al. 2024, R3GAN, section 2).

    Formula: `weight / 2 * (|grad_x D(x)|^2 + |grad_y D(y)|^2)` at real x and fake y. This is the sum of `r1` and `r2`,
    computed in one backward pass. It reuses both forward passes of the loss.

    Args:
        weight: The paper's gamma, the same for both penalties.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.
        sigma: The length of a finite difference in units of the samples, in place of the exact gradient; see `r1`.

    Raises:
        BadValueError: If `weight` is negative, `every` is less than 1, or `sigma` is not positive.
        ShapeError: If it is called with different numbers of real and fake samples.

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
    reduction: Reduction = "mean"
    sigma: float | None = None
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"real", "fake"})

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        if self.sigma is not None:
            ours, theirs = (self._square(context, which) for which in ("real", "fake"))
            check_same_batch(ours, theirs)
            return self.weight / 2 * (ours + theirs)
        logits = [self._logits(context, "real"), self._logits(context, "fake")]
        check_same_batch(*logits)
        real, fake = _gradients(logits, [context.real, context.fake])
        squares = real.square().flatten(logits[0].ndim).sum(-1) + fake.square().flatten(logits[0].ndim).sum(-1)
        return self.weight / 2 * squares


@REGULARIZERS.register("wasserstein_gradient_penalty")
@dataclass(frozen=True)
class WassersteinGradientPenalty(_GradientPenalty):
    """WGAN-GP: a gradient norm of 1 between real and fake samples (Gulrajani et al. 2017, eq. 3).

    Formula: `weight * (|grad_y D(y)| - 1)^2` at `y = e x + (1 - e) G(z)`, where e is drawn for each sample, uniform in
    [0, 1). One-sided: `weight * max(0, |grad_y D(y)| - 1)^2`. It costs one more forward pass of D.

    The norm is computed per sample. BatchNorm in D would mix samples, so the paper leaves it out of the critic.

    Args:
        weight: The paper's lambda.
        one_sided: Penalise only norms above 1 (section 4 of the paper).
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1.
        ShapeError: If it is called with real and fake samples of different shapes.

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
    reduction: Reduction = "mean"

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty at a random point between each real sample and its fake, `(..., N)`."""
        samples = _interpolated(context)
        excess = gradient_norm(self._logits(context, samples), samples) - 1
        return self.weight * (F.relu(excess) if self.one_sided else excess).square()


@REGULARIZERS.register("dragan")
@dataclass(frozen=True)
class DRAGAN(_GradientPenalty):
    """DRAGAN: a gradient norm of 1 around real samples (Kodali et al. 2017, alg. 1).

    Formula: `weight * (|grad_y D(y)| - target)^2` at `y = x + noise`, where x is real and the noise is normal with
    `noise_scale` times the standard deviation of all values of the batch. It costs one more forward pass of D.

    Args:
        weight: The paper's lambda.
        target: The paper's k, the norm at which the penalty is 0.
        noise_scale: The standard deviation of the noise in units of the batch's standard deviation, which is the
            square root of the paper's c in those units.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.

    Raises:
        BadValueError: If `weight`, `target` or `noise_scale` is negative, or `every` is less than 1.

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
    reduction: Reduction = "mean"

    @override
    def check_arguments(self) -> None:
        """Raise `BadValueError` if a number is negative or `every` is less than 1."""
        super().check_arguments()
        check_positive("target", self.target, zero=True)
        check_positive("noise_scale", self.noise_scale, zero=True)

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty at a random point near each real sample, `(..., N)`."""
        real = context.real.detach()
        own = tuple(range(len(context.batch_shape) - 1, real.ndim))  # every dimension except that of the replicas
        deviation = real.std(dim=own, correction=0, keepdim=True)
        samples = (real + self.noise_scale * deviation * context.normal_like(real)).requires_grad_()
        return self.weight * (gradient_norm(self._logits(context, samples), samples) - self.target).square()


@REGULARIZERS.register("zero_centered_interpolated")
@dataclass(frozen=True)
class ZeroCenteredInterpolated(_GradientPenalty):
    """0-GP: zero-centred gradient penalty between real and fake samples (Thanh-Tung et al. 2019).

    Formula: `weight * |grad_y D(y)|^2` at `y = e x + (1 - e) G(z)`, where D is the logit and e is drawn for each
    sample, uniform in [0, 1). It costs one more forward pass of D.

    Args:
        weight: The paper's lambda.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        reduction: What is differentiated where D judges a sample several times: the `mean` or the `sum`.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1.
        ShapeError: If it is called with real and fake samples of different shapes.

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
    reduction: Reduction = "mean"

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty at a random point between each real sample and its fake, `(..., N)`."""
        samples = _interpolated(context)
        return self.weight * squared_gradient_norm(self._logits(context, samples), samples)
