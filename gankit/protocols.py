"""The shapes of parts: what the trainer expects of a loss, a regularizer, a latent, a callback.

Nothing has to inherit from these; whatever has the members fits. Attributes are properties here, so that
frozen dataclasses satisfy them.

Shapes, everywhere:

| | |
|---|---|
| latents `z` | `(N, latent_dim)` |
| samples `x` | `(N, *sample_shape)` |
| logits | `(N,)`, never probabilities |
| with replicas | a leading dimension `R`: the batch is the *last* dimension of logits and losses |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from gankit.errors import ShapeError

Half = Literal["discriminator", "generator"]
Source = Literal["real", "fake"]
GradientInput = Literal["real", "fake", "latent"]

Batch: TypeAlias = "Tensor | tuple[Tensor, Tensor | None] | list[Tensor]"
"""What one discriminator update consumes: `real`, or `(real, condition)`."""

ContextT = TypeVar("ContextT", contravariant=True, default=Any)
"""What a regularizer is called with: `gankit.StepContext`, or any object with the members that it reads."""

TrainerT = TypeVar("TrainerT", contravariant=True)
"""What a callback is called with: `gankit.AdversarialTrainer`."""


@runtime_checkable
class AdversarialLoss(Protocol):
    """Two elementwise functions of logits: what the discriminator and the generator minimise.

    The trainer reduces: mean over the batch, sum over replicas. A loss whose logits are log-odds of "real"
    may say so with an attribute `log_odds = True`; the trainer then reports their sigmoid, D(x) and
    D(G(z)), as the scores.
    """

    @property
    def needs_real_logits(self) -> bool:
        """Whether the generator's half reads D(real), as relativistic losses do."""
        ...

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """`(..., N)` and `(..., N)` in, `(..., N)` out."""
        ...

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """`(..., N)` in, `(..., N)` out."""
        ...


@runtime_checkable
class ScheduledLoss(Protocol):
    """Something that offers another loss at another step."""

    def loss_at(self, step: int) -> AdversarialLoss:
        """Return the loss for the trainer step `step`, counted from 0."""
        ...


@runtime_checkable
class BuildsLosses(Protocol):
    """A description of losses that each trainer turns into objects of its own, such as `gankit.LossSchedule`."""

    def build(self) -> ScheduledLoss:
        """Build the losses; every call builds new ones."""
        ...


@runtime_checkable
class HasLosses(Protocol):
    """A `ScheduledLoss` that lists its losses, so that the trainer can move and broadcast their tensors."""

    @property
    def losses(self) -> Sequence[AdversarialLoss]:
        """The losses of all steps, each of them once."""
        ...


@runtime_checkable
class Regularizer(Protocol[ContextT]):
    """One more term of one network's objective."""

    @property
    def half(self) -> Half:
        """Whose objective the term joins."""
        ...

    @property
    def every(self) -> int:
        """Apply in every `every`-th trainer step; the trainer multiplies the term by it."""
        ...

    @property
    def gradient_inputs(self) -> frozenset[GradientInput]:
        """Which tensors of the context the term differentiates with respect to."""
        ...

    def __call__(self, context: ContextT, /) -> Tensor:
        """Return the weighted term, `(..., N)`; statistics of the batch are expanded to that shape."""
        ...


@runtime_checkable
class Constraint(Protocol):
    """A change to the discriminator after its update, such as weight clipping."""

    @property
    def every(self) -> int:
        """Apply in every `every`-th trainer step."""
        ...

    def apply(self, network: nn.Module) -> None:
        """Change the network's parameters in place."""
        ...


@runtime_checkable
class Latent(Protocol):
    """Where latents come from. It may offer `shape`, the shape of one latent."""

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw `count` latents, `(count, *shape)`, from `generator`, on `device`."""
        ...


@runtime_checkable
class DeviceBatches(Protocol):
    """Endless batches that lie on the device, and that a captured step can draw for itself.

    A slot is a place for one batch; a step with several updates of the discriminator uses several.
    """

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """What `read` draws from."""
        ...

    def advance(self, slot: int) -> None:
        """Do the host's part of the next batch: count, and say where it lies, without waiting for the device."""
        ...

    def read(self, slot: int) -> Batch:
        """Return the batch: operations on the device alone, the same ones at every call."""
        ...


State: TypeAlias = Mapping[str, Any]
"""What `state_dict` returns: plain containers, numbers and tensors, so that it loads without running code."""


@runtime_checkable
class Stateful(Protocol):
    """A part with a state to save, such as an `nn.Module`."""

    def state_dict(self) -> State:
        """Return the state."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Continue from a state."""
        ...


class Callback(Protocol[TrainerT]):
    """Something to do now and then during `fit`; called with the trainer, after a step."""

    @property
    def every(self) -> int:
        """Call after every `every`-th trainer step."""
        ...

    def __call__(self, trainer: TrainerT, /) -> None:
        """Do it."""
        ...


@runtime_checkable
class Keeper(Protocol[TrainerT]):
    """A callback that keeps states of the training, and can go back to one."""

    def save(self, trainer: TrainerT, /) -> None:
        """Keep the present state."""
        ...

    def roll_back(self, trainer: TrainerT, /) -> int:
        """Let the trainer go on from the newest state that was kept; return its step."""
        ...


Random: TypeAlias = "torch.Generator | Sequence[torch.Generator] | None"
"""Where random numbers come from: a generator, one for each replica, or None for torch's default."""


class BlockFactory(Protocol):
    """What `BLOCKS` holds: builds a layer from one width to another."""

    def __call__(
        self,
        in_features: int,
        out_features: int,
        /,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> nn.Module:
        """Return the block; features are channels where it is convolutional."""
        ...


def check_same_batch(real_logits: Tensor, fake_logits: Tensor) -> None:
    """Raise `ShapeError` unless both have the same shape: a loss never broadcasts one over the other.

    Example:
        >>> check_same_batch(torch.zeros(4), torch.zeros(1))
        Traceback (most recent call last):
        gankit.errors.ShapeError: real_logits and fake_logits must have the same shape (N,), got (4,) and (1,)
    """
    if real_logits.shape != fake_logits.shape:
        raise ShapeError(
            "real_logits and fake_logits must have the same shape (N,), "
            f"got {tuple(real_logits.shape)} and {tuple(fake_logits.shape)}"
        )
