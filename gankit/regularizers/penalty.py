"""Base classes of the penalties: `Penalty`, and `AveragingPenalty` for those with moving averages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import BadValueError, check_count, check_positive
from gankit.protocols import GradientInput, Half


class Penalty(ABC):
    """One more term of one network's objective, with a weight, that is due in every `every`-th step.

    Subclasses are frozen dataclasses, which declare their weight and `every` as fields: the order of the fields is
    the order of the arguments. A class of your own need not inherit from this one to be a `Regularizer`.

    Attributes:
        half: The network whose objective the penalty joins.
        gradient_inputs: The tensors of the context with respect to which the penalty differentiates.
        weights: The names of the arguments that are weights.
        needs_latent: Whether the penalty needs the latents of G, which a training loop without them cannot give it.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Drift(Penalty):
        ...     weight: float = 0.001
        ...     every: int = 1
        ...     def __call__(self, context: StepContext) -> Tensor:
        ...         return self.weight * context.logits("real").square()
        >>> Drift(weight=-1.0)
        Traceback (most recent call last):
        gankit.errors.BadValueError: weight must be 0 or more, got -1.0
    """

    every: int
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset()
    weights: ClassVar[tuple[str, ...]] = ("weight",)
    needs_latent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.check_arguments()

    def check_arguments(self) -> None:
        """Raise `BadValueError` if a weight is negative or `every` is less than 1."""
        for name in self.weights:
            check_positive(name, getattr(self, name), zero=True)
        check_count("every", self.every)

    @abstractmethod
    def __call__(self, context: StepContext) -> Tensor:
        """Return the weighted penalty, one value per sample, `(..., N)`. It does not depend on `every`."""

    def term(self, context: StepContext) -> Tensor:
        """Return what a training loop of your own adds to its objective in the step `context.step`.

        This is `every` times the penalty in every `every`-th step, from step 0 on, as in the trainer, and zero in the
        others.

        Returns:
            One value per sample, `(..., N)`, or a 0-d zero.

        Example:
            >>> from gankit.regularizers import LogitDrift
            >>> penalty, D, x = LogitDrift(weight=1.0, every=4), nn.Flatten(0), torch.ones(2, 1)
            >>> [penalty.term(StepContext(discriminator=D, real=x, step=step)).sum().item() for step in (0, 1, 4)]
            [8.0, 0.0, 8.0]
        """
        if context.step % self.every:
            return torch.zeros(())
        return self(context) * self.every


class AveragingPenalty(nn.Module, Penalty):
    """A penalty with moving averages. They are buffers, so they are saved with the trainer's state.

    An average is a 0-d tensor, or has one value per replica. How many replicas there are, and on which device, is
    known only when the penalty is called or its state is loaded, so the buffers change their shape then.

    Args:
        weight: The weight of the penalty.
        decay: The factor by which an average is multiplied at each update.
        every: The penalty is due in every `every`-th step.

    Raises:
        BadValueError: If `weight` is negative, `decay` is outside [0, 1), or `every` is less than 1.

    Example:
        >>> class ToMeanLogit(AveragingPenalty):
        ...     def __init__(self, weight: float = 1.0, decay: float = 0.9, every: int = 1) -> None:
        ...         super().__init__(weight, decay, every)
        ...         self.register_buffer("average", torch.zeros(()))
        ...     def forward(self, context: StepContext) -> Tensor:
        ...         logits = context.logits("real")
        ...         mean = logits.detach().mean(-1)
        ...         self.fit_buffer("average", mean).lerp_(mean, 1 - self.decay)
        ...         return self.weight * (logits - self.average.unsqueeze(-1)).square()
        >>> penalty = ToMeanLogit(decay=0.0)
        >>> penalty(StepContext(discriminator=nn.Flatten(0), real=torch.tensor([[1.0], [3.0]])))
        tensor([1., 1.])
    """

    # nn.Module has a method `half`, a cast to float16, which a penalty does not need
    half: ClassVar[Half] = "discriminator"  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, weight: float, decay: float, every: int) -> None:
        super().__init__()
        self.weight = weight
        self.decay = decay
        self.every = every
        self.check_arguments()
        if not 0 <= decay < 1:
            raise BadValueError(f"decay must be in [0, 1), got {decay!r}")
        self.register_load_state_dict_pre_hook(_take_saved_shapes)  # pyright: ignore[reportUnknownMemberType]

    def fit_buffer(self, name: str, value: Tensor) -> Tensor:
        """Give a buffer the shape, type and device of `value`, unless it has them, and return it."""
        buffer: Tensor = getattr(self, name)
        if (buffer.shape, buffer.dtype, buffer.device) != (value.shape, value.dtype, value.device):
            buffer = buffer.to(value).expand(value.shape).clone()
            setattr(self, name, buffer)
        return buffer

    @override
    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"weight={self.weight}, decay={self.decay}, every={self.every}"


def _take_saved_shapes(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give a module's buffers the shapes and types of the state that is about to be loaded."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        if prefix + name in state:
            saved = cast(Tensor, state[prefix + name])
            setattr(module, name, torch.zeros_like(saved, device=buffer.device))
