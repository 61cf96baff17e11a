"""Further terms of the generator's objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.context import StepContext, widened
from gankit.errors import BadArgumentsError, BadValueError, check_count, check_positive
from gankit.protocols import GradientInput, Half
from gankit.regularizers.averages import check_decay, fitted, take_shapes
from gankit.regularizers.gradient import lengths
from gankit.regularizers.registry import REGULARIZERS


@REGULARIZERS.register("feature_matching")
@dataclass(frozen=True)
class FeatureMatching:
    """Feature matching: fakes have the mean features of real samples (Salimans et al. 2016, section 3.1).

    Formula: `weight * |mean f(x) - mean f(G(z))|^2`, means over the batch, f being D's `features`. It is one
    number a batch, given to every sample. The real side has no graph. It costs a pass of D's features on real
    and one on fake samples. In the paper it takes the loss's place; here it joins the loss.

    Args:
        weight: of the term.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.
        BadArgumentsError: when called with a discriminator that offers no `features(x, condition)`.

    Example:
        >>> class Critic(nn.Flatten):
        ...     def features(self, x, condition=None):
        ...         return x
        >>> real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [6.0]])
        >>> FeatureMatching()(StepContext(discriminator=Critic(0), real=real, fake=fake))     # (2 - 5)^2
        tensor([9., 9.])
    """

    weight: float = 1.0
    every: int = 1
    half: ClassVar[Half] = "generator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the batch's term for each fake, `(..., N)`."""
        real, fake = context.features("real").detach(), context.features("fake")
        logits = context.logits("fake")
        real, fake = (one.unsqueeze(-1).flatten(logits.ndim) for one in (real, fake))
        gap = real.mean(-2) - fake.mean(-2)
        return self.weight * gap.square().sum(-1, keepdim=True).expand(logits.shape)


@REGULARIZERS.register("mode_seeking")
@dataclass(frozen=True)
class ModeSeeking:
    """Mode seeking: different latents give different samples (Mao et al. 2019, eq. 2 and 3).

    Formula: `weight / (|G(z) - G(z')| / |z - z'| + 1e-5)`, with mean absolute differences: the paper's ratio,
    which is to be large, turned round as in its code, and taken for each pair rather than for the batch. Each
    sample's z' is the latent of its neighbour in the batch, the last one's that of the first.

    Without a condition G(z') is the neighbour's sample, and there is no further pass. With a condition c the
    pair is G(z, c) and G(z', c), under one and the same condition, for one further forward pass of G. Equal
    latents cost nothing.

    Args:
        weight: lambda_ms of the paper.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1; when called with a batch of one.
        BadArgumentsError: when called without latents, or with a condition and no generator.

    Example:
        >>> z = torch.tensor([[0.0], [1.0]])
        >>> context = StepContext(discriminator=nn.Flatten(0), fake=4 * z, latent=z)
        >>> ModeSeeking()(context)                                         # 1 / 4
        tensor([0.2500, 0.2500])
    """

    weight: float = 1.0
    every: int = 1
    half: ClassVar[Half] = "generator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the term of each fake and its partner, `(..., N)`."""
        fake, latent, logits = context.fake, _latent("mode_seeking", context).detach(), context.logits("fake")
        batch = logits.ndim - 1
        if logits.shape[batch] < 2:
            raise BadValueError("mode_seeking pairs samples of a batch, so it needs 2 or more, got 1")
        other_latent = latent.roll(1, batch)
        if context.condition is None:
            other = fake.roll(1, batch)
        elif context.generator is None:
            raise BadArgumentsError("mode_seeking with a condition needs the StepContext's generator=, got None")
        else:
            other = widened(context.generator(other_latent, context.condition))
        apart = (fake - other).abs().flatten(logits.ndim).mean(-1)
        latents_apart = (latent - other_latent).abs().flatten(logits.ndim).mean(-1)
        # 1 / (apart / latents_apart + 1e-5), in a form that is 0 for equal latents
        scale = (apart + 1e-5 * latents_apart).clamp_min(torch.finfo(apart.dtype).tiny)
        return self.weight * (latents_apart / scale)


@REGULARIZERS.register("path_length")
class PathLength(nn.Module):
    """Path length: a step in z changes the picture equally everywhere (Karras et al. 2020, StyleGAN2, eq. 4).

    Formula: `weight * (|J^T y| - a)^2`, where `J^T y` is the gradient of `sum(G(z) * y)` with respect to z, y is
    normal noise divided by the square root of the number of pixels (H times W; all values of a sample that
    is a vector), and a is a moving average of `|J^T y|`. It costs a backward pass through G and no forward pass.

    At each call in train mode, and so in each update of G at which the term is due, the average takes in this
    batch's mean first: `a <- decay a + (1 - decay) mean |J^T y|`, from 0. The penalty is then computed with the
    new average, as a constant. After `.eval()` it stays as it is. The paper applies it in every 4th step.

    Args:
        weight: of the term.
        decay: what the average keeps of itself at an update.
        every: apply in every `every`-th step, `every` times as strong.

    Attributes:
        average: a of the paper, a buffer; one value, or one a replica.

    Raises:
        BadValueError: for a negative `weight`, a `decay` outside [0, 1), or `every` under 1.
        BadArgumentsError: when called without latents, or with latents that required no gradient before G saw
            them (the trainer sees to it).

    Example:
        >>> z = torch.zeros(2, 1, requires_grad=True)
        >>> context = StepContext(discriminator=nn.Flatten(0), fake=3 * z, latent=z)
        >>> part = PathLength(weight=2.0, decay=0.0)
        >>> penalty = part(context)                                        # |J^T y| = 3 |y|
        >>> penalty.shape, bool(part.average > 0)
        (torch.Size([2]), True)
    """

    # the trainer's half, where a module has a cast to float16 that nobody needs here
    half: ClassVar[Half] = "generator"  # pyright: ignore[reportIncompatibleMethodOverride]
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"latent"})
    average: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.99, every: int = 1) -> None:
        check_positive("weight", weight, zero=True)
        check_decay(decay)
        check_count("every", every)
        super().__init__()
        self.weight = weight
        self.decay = decay
        self.every = every
        self.register_buffer("average", torch.zeros(()))
        self.register_load_state_dict_pre_hook(take_shapes)  # pyright: ignore[reportUnknownMemberType]

    @override
    def forward(self, context: StepContext) -> Tensor:
        """Return the term of each fake, `(..., N)`."""
        fake, latent, logits = context.fake, _latent("path_length", context), context.logits("fake")
        if not latent.requires_grad:
            raise BadArgumentsError(
                "path_length needs latents that require a gradient before G sees them: latent.requires_grad_()"
            )
        shape = fake.shape[logits.ndim :]
        pixels = math.prod(shape[1:] if len(shape) > 1 else shape)
        noise = context.normal_like(fake) / math.sqrt(pixels)
        (gradient,) = torch.autograd.grad((fake * noise).sum(), latent, create_graph=True)
        length = lengths(gradient, logits.ndim)
        mean = length.detach().mean(-1)
        self.average = fitted(self.average, mean)
        if self.training:
            self.average.lerp_(mean, 1 - self.decay)
        return self.weight * (length - self.average.unsqueeze(-1)).square()

    @override
    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"weight={self.weight}, decay={self.decay}, every={self.every}"


def _latent(name: str, context: StepContext) -> Tensor:
    if context.latent is None:
        raise BadArgumentsError(f"{name} reads the latents, and this StepContext was made without latent=")
    return context.latent
