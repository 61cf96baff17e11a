"""Penalties on the logits themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import check_count, check_positive
from gankit.protocols import GradientInput, Half, check_same_batch
from gankit.regularizers.averages import check_decay, fitted, take_shapes
from gankit.regularizers.registry import REGULARIZERS


@REGULARIZERS.register("logit_drift")
@dataclass(frozen=True)
class LogitDrift:
    """Logit drift: keeps D's logits on real samples near zero (Karras et al. 2017, appendix A.1).

    Formula: `weight * D(x)^2` at real x. A Wasserstein critic is free up to a constant, and this holds it. It
    reuses the forward pass of the loss.

    Args:
        weight: epsilon of the paper.
        every: apply in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.

    Example:
        >>> D = nn.Flatten(0)                                              # D(x) = x
        >>> LogitDrift(weight=0.5)(StepContext(discriminator=D, real=torch.tensor([[2.0], [4.0]])))
        tensor([2., 8.])
    """

    weight: float = 0.001
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_count("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight * context.logits("real").square()


@REGULARIZERS.register("lecam")
class Lecam(nn.Module):
    """LeCam: holds D's logits to moving averages of the other side's (Tseng et al. 2021, R_LC).

    Formula: `weight * ((D(x) - alpha_F)^2 + (D(G(z)) - alpha_R)^2)`, where `alpha_R` and `alpha_F` are moving
    averages of the mean logit on real and on fake samples. This is the paper's formula; its authors' code keeps
    only the positive parts of `D(x) - alpha_F` and `alpha_R - D(G(z))`. It reuses both forward passes of the loss.

    At each call in train mode, and so once in each update of D at which the penalty is due, the averages
    take in this batch's means first, and the penalty is then computed with the new averages, as constants. They
    have no bias toward zero at the start: after the first call they are the first batch's means, later
    `decay` times the old and `1 - decay` times the new value (divided by the weights' sum, as in Adam). After
    `.eval()` they stay as they are.

    Args:
        weight: lambda of the paper.
        decay: gamma of the paper: what an average keeps of itself at an update.
        every: apply in every `every`-th step, `every` times as strong.

    Attributes:
        real_average: `alpha_R`, a buffer; one value, or one a replica.
        fake_average: `alpha_F`, a buffer likewise.
        updates_done: how often the averages were updated, a buffer.

    Raises:
        BadValueError: for a negative `weight`, a `decay` outside [0, 1), or `every` under 1.
        ShapeError: when called with another number of fakes than of real samples.

    Example:
        >>> D = nn.Flatten(0)                                              # D(x) = x
        >>> context = StepContext(discriminator=D, real=torch.ones(2, 1), fake=torch.zeros(2, 1))
        >>> lecam = Lecam(weight=0.5)
        >>> lecam(context)                          # 0.5 * ((1 - 0)^2 + (0 - 1)^2)
        tensor([1., 1.])
        >>> lecam.real_average, lecam.fake_average
        (tensor(1.), tensor(0.))
    """

    # the trainer's half, where a module has a cast to float16 that nobody needs here
    half: ClassVar[Half] = "discriminator"  # pyright: ignore[reportIncompatibleMethodOverride]
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()
    real_average: Tensor
    fake_average: Tensor
    updates_done: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99, every: int = 1) -> None:
        check_positive("weight", weight, zero=True)
        check_decay(decay)
        check_count("every", every)
        super().__init__()
        self.weight = weight
        self.decay = decay
        self.every = every
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))
        self.register_load_state_dict_pre_hook(take_shapes)  # pyright: ignore[reportUnknownMemberType]

    @override
    def forward(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        real, fake = context.logits("real"), context.logits("fake")
        check_same_batch(real, fake)
        self._update(real.detach().mean(-1), fake.detach().mean(-1))
        squares = (real - self.fake_average.unsqueeze(-1)).square() + (fake - self.real_average.unsqueeze(-1)).square()
        return self.weight * squares

    def _update(self, real: Tensor, fake: Tensor) -> None:
        self.real_average = fitted(self.real_average, real)
        self.fake_average = fitted(self.fake_average, fake)
        self.updates_done = self.updates_done.to(real.device)
        if not self.training:
            return
        before = self.updates_done.to(real.dtype)
        # decay * (1 - decay^t) / (1 - decay^(t + 1)): exactly 0 at the first update
        kept = self.decay * (1 - self.decay**before) / (1 - self.decay ** (before + 1))
        self.real_average.lerp_(real, 1 - kept)
        self.fake_average.lerp_(fake, 1 - kept)
        self.updates_done += 1

    @override
    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"weight={self.weight}, decay={self.decay}, every={self.every}"
