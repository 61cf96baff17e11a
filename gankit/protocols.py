"""Interfaces of the parts: what the trainer expects of a loss, a regularizer, a latent, a callback.

A part need not inherit from these classes; any object with the members will do. Attributes are declared as
properties, so that frozen dataclasses conform. The classes whose names begin with `Has`, and the like, declare
optional members of parts.

Shapes, everywhere:

| | |
|---|---|
| latents `z` | `(N, latent_dim)` |
| samples `x` | `(N, *sample_shape)` |
| logits | `(N,)`, or `(N * P,)` where D judges P positions of a sample; never probabilities |
| with replicas | a leading dimension `R`: the batch is the *last* dimension of logits and losses |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

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


# --- losses ----------------------------------------------------------------------------------------------


@runtime_checkable
class AdversarialLoss(Protocol):
    """Two elementwise functions of logits: what the discriminator and the generator minimise.

    The trainer takes the mean over the batch and the sum over the replicas.
    """

    @property
    def needs_real_logits(self) -> bool:
        """Whether the generator's half needs D(real), as relativistic losses do."""
        ...

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss of each pair of logits, `(..., N)`."""
        ...

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss of each fake, `(..., N)`."""
        ...


@runtime_checkable
class HasLogOdds(Protocol):
    """A loss that says whether its logits are the log-odds of "real"; see `has_log_odds`.

    If they are, the trainer reports their sigmoid, D(x) and D(G(z)), as the scores.
    """

    @property
    def log_odds(self) -> bool:
        """Whether the sigmoid of a logit is D's probability of "real"."""
        ...


def has_log_odds(loss: AdversarialLoss) -> bool:
    """Return the loss's `log_odds`, or False if it does not say.

    The trainer asks in every step, for which `isinstance` with a protocol would be slow.

    Example:
        >>> from gankit.losses import Hinge, Minimax
        >>> has_log_odds(Minimax()), has_log_odds(Hinge())
        (True, False)
    """
    try:
        return cast(HasLogOdds, loss).log_odds
    except AttributeError:
        return False


@runtime_checkable
class ScheduledLoss(Protocol):
    """An object that chooses the loss by the step."""

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


# --- regularizers ----------------------------------------------------------------------------------------


@runtime_checkable
class Regularizer(Protocol[ContextT]):
    """One more term of one network's objective."""

    @property
    def half(self) -> Half:
        """The network whose objective the term joins."""
        ...

    @property
    def every(self) -> int:
        """The term is due in every `every`-th trainer step; the trainer multiplies it by `every`."""
        ...

    @property
    def gradient_inputs(self) -> frozenset[GradientInput]:
        """The tensors of the context with respect to which the term differentiates."""
        ...

    def __call__(self, context: ContextT, /) -> Tensor:
        """Return the weighted term, `(..., N)`; a statistic of the whole batch is expanded to that shape."""
        ...


@runtime_checkable
class Constraint(Protocol):
    """A change to the discriminator after its update, such as weight clipping."""

    @property
    def every(self) -> int:
        """The constraint is applied after every `every`-th trainer step."""
        ...

    def apply(self, network: nn.Module) -> None:
        """Change the network's parameters in place."""
        ...


def part_name(part: object) -> str:
    """Return the name of a part that was given without one: that of its class, in snake_case.

    Example:
        >>> class WeightClipping: ...
        >>> part_name(WeightClipping())
        'weight_clipping'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(part).__name__).lower()


# --- networks --------------------------------------------------------------------------------------------


@runtime_checkable
class HasFeatures(Protocol):
    """A discriminator that returns the features from which it computes its logits; see `features_of`."""

    def features(self, x: Tensor, condition: Tensor | None, /) -> Tensor:
        """Return the features of each sample, `(N, ...)`."""
        ...


@runtime_checkable
class HasBatchMultiple(Protocol):
    """A discriminator that needs batches of a certain multiple of samples, as packing does; see `batch_multiple_of`."""

    @property
    def batch_multiple(self) -> int:
        """The number of which every batch size must be a multiple."""
        ...


@runtime_checkable
class MixesSamples(Protocol):
    """A layer that says whether its output for one sample depends on the other samples of the batch."""

    @property
    def mixes_samples(self) -> bool:
        """Whether samples of a batch influence each other."""
        ...


def features_of(network: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor] | None:
    """Return the network's `features(x, condition)`, or None if it has none.

    The network may be wrapped, such as by `DistributedDataParallel`, Fabric or `torch.compile`. A submodule that is
    called `features`, as in networks of `features` and a `classifier`, is not meant.

    Example:
        >>> features_of(nn.Linear(3, 1)) is None
        True
    """
    found = _attribute(network, "features")
    return None if isinstance(found, nn.Module) else cast("Callable[[Tensor, Tensor | None], Tensor] | None", found)


def batch_multiple_of(network: nn.Module) -> int:
    """Return the number of which the network's batch sizes must be multiples; 1 if it does not say.

    Example:
        >>> batch_multiple_of(nn.Linear(3, 1))
        1
    """
    return int(cast(Any, _attribute(network, "batch_multiple")) or 1)


def _attribute(network: nn.Module, name: str) -> object:
    """Return an attribute of a network, or of the network that it wraps; None if neither has it.

    Wrappers of `torch.compile` pass unknown attributes on by `__getattr__`, which `isinstance` with a protocol does not
    see. Those for several processes keep the network as `module` and pass nothing on; Fabric's refuses methods.
    """
    if not hasattr(type(network), name):
        wrapped = getattr(network, "module", None)
        if isinstance(wrapped, nn.Module):
            found = _attribute(wrapped, name)
            if found is not None:
                return found
    return getattr(network, name, None)


# --- latents and batches ---------------------------------------------------------------------------------


@runtime_checkable
class Latent(Protocol):
    """A distribution of latents."""

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw `count` latents, `(count, *shape)`, from `generator`, on `device`."""
        ...


@runtime_checkable
class HasShape(Protocol):
    """A latent that says its shape, so that the networks can be checked before training."""

    @property
    def shape(self) -> Sequence[int]:
        """The shape of one latent."""
        ...


@runtime_checkable
class HasDevice(Protocol):
    """Batches that say on which device they lie."""

    @property
    def device(self) -> torch.device:
        """The device of the batches."""
        ...


@runtime_checkable
class KnownFinite(Protocol):
    """Batches that say whether their values have been checked; the trainer checks all others as it draws them."""

    @property
    def known_finite(self) -> bool:
        """Whether no batch contains NaN or infinite values."""
        ...


@runtime_checkable
class KeepsPlace(Protocol):
    """Batches with a place that only `fit` moves while it reads them; others that iterate over them look at copies."""

    is_reserved: bool
    """Whether only `take` moves the place."""

    def take(self) -> Iterator[Batch]:
        """Iterate over the rest of the epoch and move the place."""
        ...

    def follow(self, earlier: object, /) -> bool:
        """Share the place of earlier batches that these would only repeat; return whether those may be read on."""
        ...


@runtime_checkable
class NotRestorable(Protocol):
    """Batches that say what `load_state_dict` cannot restore of them."""

    @property
    def not_restorable(self) -> str | None:
        """What is lost on resuming, and why, in one sentence; None if nothing is."""
        ...


@runtime_checkable
class HasFingerprint(Protocol):
    """Data, or batches of data, that a training can recognise when it is resumed; see `gankit.fingerprints`."""

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return numbers and hashes by name, which differ if the data differ."""
        ...


@runtime_checkable
class DeviceBatches(Protocol):
    """Endless batches that lie on the device, so that a captured step can draw them itself.

    A slot is a place for one batch; a step with several updates of the discriminator uses several.
    """

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The random generators that `read` draws from."""
        ...

    def advance(self, slot: int) -> None:
        """Do the host's part of the next batch: count it and write its position, without waiting for the device."""
        ...

    def read(self, slot: int) -> Batch:
        """Return the batch, by operations on the device alone, the same ones in every call."""
        ...


def makes_new_tensors(part: object) -> bool:
    """Return whether a part is known to return a new tensor in each call. Parts of others may refill the same one.

    Example:
        >>> makes_new_tensors(nn.Linear(1, 1))
        False
    """
    return type(part).__module__.partition(".")[0] == "gankit"


# --- states and callbacks --------------------------------------------------------------------------------

State: TypeAlias = Mapping[str, Any]
"""What `state_dict` returns: plain containers, numbers and tensors, so that loading it runs no code."""


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
    """An action that `fit` repeats every few steps; it is called with the trainer, after a step."""

    @property
    def every(self) -> int:
        """The callback is called after every `every`-th trainer step."""
        ...

    def __call__(self, trainer: TrainerT, /) -> None:
        """Run the action."""
        ...


@runtime_checkable
class BeginsFit(Protocol[TrainerT]):
    """A callback that acts before the first step of a `fit` too, for example by refusing a file of another training."""

    def begin_fit(self, trainer: TrainerT, /) -> None:
        """Act before the first step."""
        ...


@runtime_checkable
class EndsFit(Protocol[TrainerT]):
    """A callback that acts after the last step of a `fit` too, for example by logging it whatever `every` is."""

    def end_fit(self, trainer: TrainerT, /) -> None:
        """Act after the last step, when the callbacks that are due have been called."""
        ...


@runtime_checkable
class Keeper(Protocol[TrainerT]):
    """A callback that saves states of the training and can restore one."""

    def save(self, trainer: TrainerT, /) -> None:
        """Save the trainer's present state."""
        ...

    def roll_back(self, trainer: TrainerT, /) -> int:
        """Restore the newest saved state in the trainer, and return its step."""
        ...


Random: TypeAlias = "torch.Generator | Sequence[torch.Generator] | None"
"""Where random numbers come from: a generator, one for each replica, or None for torch's default generator."""


class BlockFactory(Protocol):
    """What `BLOCKS` holds: a function or class that builds a layer from one width to another."""

    def __call__(
        self,
        in_features: int,
        out_features: int,
        /,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> nn.Module:
        """Return the block; in a convolutional block, features are channels."""
        ...


def check_logits(logits: Tensor) -> None:
    """Raise `ShapeError` for logits of more than two dimensions, such as a map of judgements that was not flattened.

    Example:
        >>> check_logits(torch.zeros(4, 1, 3, 3))
        Traceback (most recent call last):
        gankit.errors.ShapeError: logits must be (N,), or (R, N) with R replicas, got (4, 1, 3, 3)
    """
    if logits.ndim > 2:
        raise ShapeError(f"logits must be (N,), or (R, N) with R replicas, got {tuple(logits.shape)}")


def check_batch_statistic(logits: Tensor) -> None:
    """Raise `ShapeError` for logits `(N, 1)`, where a statistic over the last dimension is that of one number.

    Example:
        >>> check_batch_statistic(torch.zeros(4, 1))
        Traceback (most recent call last):
        gankit.errors.ShapeError: logits must be (N,) for a statistic over the batch, or (R, N) with N above 1, got \
(4, 1); (N, 1) becomes (N,) by .squeeze(-1)
    """
    if logits.ndim == 2 and logits.shape[-1] == 1:
        raise ShapeError(
            "logits must be (N,) for a statistic over the batch, or (R, N) with N above 1, got "
            f"{tuple(logits.shape)}; (N, 1) becomes (N,) by .squeeze(-1)"
        )


def check_same_batch(real_logits: Tensor, fake_logits: Tensor) -> None:
    """Raise `ShapeError` unless both have one shape of logits, because a loss must not broadcast one to the other.

    Example:
        >>> check_same_batch(torch.zeros(4), torch.zeros(1))
        Traceback (most recent call last):
        gankit.errors.ShapeError: real_logits and fake_logits must have the same shape (N,), got (4,) and (1,)
    """
    check_logits(real_logits)
    if real_logits.shape != fake_logits.shape:
        raise ShapeError(
            "real_logits and fake_logits must have the same shape (N,), "
            f"got {tuple(real_logits.shape)} and {tuple(fake_logits.shape)}"
        )
