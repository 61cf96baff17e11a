"""Penalties that join the generator's objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from gankit.answers import widened
from gankit.context import StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.protocols import GradientInput, Half
from gankit.regularizers.gradient import lengths
from gankit.regularizers.penalty import AveragingPenalty, Penalty
from gankit.regularizers.registry import REGULARIZERS


@REGULARIZERS.register("feature_matching")
@dataclass(frozen=True)
class FeatureMatching(Penalty):
    """Feature matching: fakes should have the mean features of real samples (Salimans et al. 2016, section 3.1).

    Formula: `weight * |mean f(x) - mean f(G(z))|^2`, with means over the batch, where f is D's `features`, or what
    its `Answer` has as features; several tensors of features are added. It is one
    number for the whole batch, which every sample is given. No gradient flows through the real side. It costs one
    pass of D's features on real and one on fake samples. In the paper this term replaces the loss; here it is added
    to the loss.

    Args:
        weight: The weight of the term.
        every: Apply the term only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1.
        BadArgumentsError: If it is called with a discriminator that has no `features(x, condition)`.

    Example:
        >>> class Critic(torch.nn.Flatten):
        ...     def features(self, x, condition=None):
        ...         return x
        >>> real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [6.0]])
        >>> FeatureMatching()(StepContext(discriminator=Critic(0), real=real, fake=fake))     # (2 - 5)^2
        tensor([9., 9.])
    """

    weight: float = 1.0
    every: int = 1
    half: ClassVar[Half] = "generator"

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the term of the whole batch for each fake, `(..., N)`."""
        real, fake = (tree_leaves(context.features(which)) for which in ("real", "fake"))
        batch = len(context.batch_shape)
        gaps: list[Tensor] = []
        for ours, theirs in zip(real, fake, strict=True):
            ours, theirs = (one.unsqueeze(-1).flatten(batch) for one in (ours.detach(), theirs))
            gaps.append((ours.mean(-2) - theirs.mean(-2)).square().sum(-1, keepdim=True))
        first, *others = gaps
        return self.weight * sum(others, first).expand(context.batch_shape)


@REGULARIZERS.register("layer_matching")
@dataclass(frozen=True)
class LayerMatching(Penalty):
    """Feature matching layer by layer: each fake should have the features of its target (Wang et al. 2018, sec. 3.2).

    Formula: `weight * sum_heads sum_layers mean |f(x) - f(y)|`, where f are the features of one layer, from D's
    `features` or its `Answer`, x is real, y is the fake that belongs to it, and the mean is over the values of one
    sample. No gradient flows through the real side. It is for models whose fakes have a target each, such as an
    autoencoder; `feature_matching` compares means over the batch. With features in an `Answer`, it costs one forward
    pass of D, that on the real samples.

    Publications differ in the factor:

    | publication | weight | options |
    |---|---|---|
    | HiFi-GAN (Kong et al. 2020), whose code has the logits among the features | 2 | none |
    | pix2pixHD (Wang et al. 2018), whose code multiplies by `4 / (depth + 1)`, which is 1 | 10 | `normalize="heads"` |
    | EnCodec (Défossez et al. 2022) | 3 | `normalize="all"`, `relative=True` |

    Args:
        weight: The weight of the term.
        normalize: `none` for the sum over layers and heads, `heads` for the mean over heads of the sum over layers, or
            `all` for the mean over layers and heads.
        relative: Whether each layer's distance is divided by the mean of `|f(x)|` over the batch.
        every: Apply the term only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If `weight` is negative, `every` is less than 1, or `normalize` is unknown.
        BadArgumentsError: If it is called with a discriminator that has no features.
        ShapeError: If real and fake features have different shapes.

    Example:
        >>> class Critic(torch.nn.Flatten):
        ...     def features(self, x, condition=None):
        ...         return [x, 10 * x]
        >>> real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [4.0]])
        >>> LayerMatching()(StepContext(discriminator=Critic(0), real=real, fake=fake))     # 3 + 30 and 1 + 10
        tensor([33., 11.])
    """

    weight: float = 1.0
    normalize: Literal["none", "heads", "all"] = "none"
    relative: bool = False
    every: int = 1
    half: ClassVar[Half] = "generator"

    @override
    def check_arguments(self) -> None:
        """Raise `BadValueError` if `weight` is negative, `every` is less than 1, or `normalize` is unknown."""
        super().check_arguments()
        if self.normalize not in ("none", "heads", "all"):
            raise BadValueError(f"normalize must be one of none, heads, all, got {self.normalize!r}")

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the term of each fake, `(..., N)`."""
        real, fake = context.features("real"), context.features("fake")
        batch = len(context.batch_shape)
        distances: list[Tensor] = []
        for ours, theirs in zip(tree_leaves(real), tree_leaves(fake), strict=True):
            if ours.shape != theirs.shape:
                raise ShapeError(
                    "layer_matching compares each fake with its real sample, so their features must have the same "
                    f"shape, got {tuple(ours.shape)} and {tuple(theirs.shape)}"
                )
            ours, theirs = (one.unsqueeze(-1).flatten(batch) for one in (ours.detach(), theirs))
            distance = (ours - theirs).abs().mean(-1)
            if self.relative:
                distance = distance / ours.abs().mean((-2, -1)).unsqueeze(-1)
            distances.append(distance)
        first, *others = distances
        by_head = isinstance(fake, Sequence) and fake and not isinstance(fake[0], Tensor)
        parts = {"none": 1, "heads": len(fake) if by_head else 1, "all": len(distances)}
        return self.weight / parts[self.normalize] * sum(others, first)


@REGULARIZERS.register("mode_seeking")
@dataclass(frozen=True)
class ModeSeeking(Penalty):
    """Mode seeking: different latents should give different samples (Mao et al. 2019, eq. 2 and 3).

    Formula: `weight / (|G(z) - G(z')| / |z - z'| + 1e-5)`, with mean absolute differences. This is the reciprocal of
    the paper's ratio, which should be large, as in the authors' code; it is taken for each pair rather than for the
    batch. Each sample is paired with its neighbour in the batch, and the last with the first: z' is the neighbour's
    latent.

    Without a condition, G(z') is the neighbour's sample, so no further pass is needed. With a condition c, the pair
    is G(z, c) and G(z', c), both under the same condition, which costs one more forward pass of G. A pair of equal
    latents contributes 0.

    Args:
        weight: The paper's lambda_ms.
        every: Apply the term only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1, or if it is called with a batch of one.
        BadArgumentsError: If it is called without latents, or with a condition but no generator.

    Example:
        >>> z = torch.tensor([[0.0], [1.0]])
        >>> context = StepContext(discriminator=torch.nn.Flatten(0), fake=4 * z, latent=z)
        >>> ModeSeeking()(context)                                         # 1 / 4
        tensor([0.2500, 0.2500])
    """

    weight: float = 1.0
    every: int = 1
    half: ClassVar[Half] = "generator"
    needs_latent: ClassVar[bool] = True

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the term of each fake and its partner, `(..., N)`."""
        fake, latent, leading = context.fake, _latent("mode_seeking", context).detach(), len(context.batch_shape)
        batch = leading - 1
        if context.batch_size < 2:
            raise BadValueError("mode_seeking pairs the samples of a batch, so it needs 2 or more, got 1")
        other_latent = latent.roll(1, batch)
        if context.condition is None:
            other = fake.roll(1, batch)
        elif context.generator is None:
            raise BadArgumentsError("mode_seeking with a condition needs the StepContext's generator=, got None")
        else:
            other = widened(context.generator(other_latent, context.condition))
        apart = (fake - other).abs().flatten(leading).mean(-1)
        latents_apart = (latent - other_latent).abs().flatten(leading).mean(-1)
        # 1 / (apart / latents_apart + 1e-5), in a form that is 0 for equal latents
        scale = (apart + 1e-5 * latents_apart).clamp_min(torch.finfo(apart.dtype).tiny)
        return self.weight * (latents_apart / scale)


@REGULARIZERS.register("path_length")
class PathLength(AveragingPenalty):
    """Path length: a step in z should change the sample equally everywhere (Karras et al. 2020, StyleGAN2, eq. 4).

    Formula: `weight * (|J^T y| - a)^2`, where `J^T y` is the gradient of `sum(G(z) * y)` with respect to z, y is
    normal noise divided by the square root of the number of pixels (height times width; for samples that are
    vectors, the number of values), and a is a moving average of `|J^T y|`. It costs a backward pass through G and no
    forward pass.

    Each call in train mode, that is, each update of G in which the term is due, first updates the average with this
    batch's mean, `a <- decay a + (1 - decay) mean |J^T y|`, starting from 0, and then computes the penalty with the
    new average, which counts as a constant. After `.eval()` the average no longer changes. The paper applies the
    term in every 4th step.

    Args:
        weight: The weight of the term.
        decay: The factor by which the average is multiplied at each update.
        every: Apply the term only in every `every`-th step, `every` times as strong.

    Attributes:
        average: The paper's a, a buffer, 0-d or with one value per replica.

    Raises:
        BadValueError: If `weight` is negative, `decay` is outside [0, 1), or `every` is less than 1.
        BadArgumentsError: If it is called without latents, or with latents that did not require a gradient when G
            was called (the trainer sees to that).

    Example:
        >>> z = torch.zeros(2, 1, requires_grad=True)
        >>> context = StepContext(discriminator=torch.nn.Flatten(0), fake=3 * z, latent=z)
        >>> path_length = PathLength(weight=2.0, decay=0.0)
        >>> penalty = path_length(context)                                 # |J^T y| = 3 |y|
        >>> penalty.shape, bool(path_length.average > 0)
        (torch.Size([2]), True)
    """

    half: ClassVar[Half] = "generator"
    needs_latent: ClassVar[bool] = True
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"latent"})
    average: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.99, every: int = 1) -> None:
        super().__init__(weight, decay, every)
        self.register_buffer("average", torch.zeros(()))

    @override
    def forward(self, context: StepContext) -> Tensor:
        """Return the term of each fake, `(..., N)`."""
        fake, latent, batch = context.fake, _latent("path_length", context), len(context.batch_shape)
        if not latent.requires_grad:
            raise BadArgumentsError(
                "path_length needs latents that require a gradient, got others; call latent.requires_grad_() before G"
            )
        shape = fake.shape[batch:]
        pixels = math.prod(shape[1:] if len(shape) > 1 else shape)
        noise = context.normal_like(fake) / math.sqrt(pixels)
        (gradient,) = torch.autograd.grad((fake * noise).sum(), latent, create_graph=True)
        length = lengths(widened(gradient), batch)
        mean = length.detach().mean(-1)
        average = self.fit_buffer("average", mean)
        if self.training:
            average.lerp_(mean, 1 - self.decay)
        return self.weight * (length - average.unsqueeze(-1)).square()


def _latent(name: str, context: StepContext) -> Tensor:
    if context.latent is None:
        raise BadArgumentsError(f"{name} needs the StepContext's latent=, got None")
    return context.latent
