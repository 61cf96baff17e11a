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

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, ShapeError

Half = Literal["discriminator", "generator"]
Source = Literal["real", "fake"]
GradientInput = Literal["real", "fake", "latent"]

Batch: TypeAlias = "Tensor | tuple[Tensor, Tensor | None] | list[Tensor]"
"""What one discriminator update consumes: `real`, or `(real, condition)`."""


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
class Regularizer(Protocol):
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

    def __call__(self, context: StepContext) -> Tensor:
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


TrainerT = TypeVar("TrainerT", contravariant=True)


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


class StepContext:
    """What a step's objectives and penalties see, with D's answers computed once and kept.

    A penalty on D(real) reuses the forward pass the loss paid for. The trainer makes one for each half of
    a step; in a loop of your own, make one by keywords.

    Args:
        discriminator: D; called `D(x)`, or `D(x, condition)` where there is a condition.
        generator: G.
        real: real samples, `(N, *sample_shape)`.
        fake: G(latent), detached for the discriminator's half, with its graph for the generator's.
        latent: the latents `fake` was made from.
        condition: what both networks are conditioned on, or None.
        step: the trainer's step, counted from 0.
        random: the generator that `normal_like`, `uniform_like` and `changed` draw from; None for torch's
            default; one for each replica where samples are `(R, N, *sample_shape)`.
        gradient_inputs: which of `real` and `fake` a penalty will differentiate with respect to. These are
            detached here and require a gradient.
        concatenate: ask D once for real and fake samples together, rather than twice; for a D that does not
            mix the samples of a batch.

    Example:
        >>> D = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0))
        >>> context = StepContext(discriminator=D, real=torch.ones(3, 1, 2, 2))
        >>> context.logits("real").shape
        torch.Size([3])
    """

    def __init__(
        self,
        *,
        discriminator: nn.Module,
        generator: nn.Module | None = None,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        latent: Tensor | None = None,
        condition: Tensor | None = None,
        step: int = 0,
        random: Random = None,
        gradient_inputs: Iterable[GradientInput] = (),
        concatenate: bool = False,
    ) -> None:
        self.discriminator = discriminator
        self.generator = generator
        self.latent = latent
        self.condition = condition
        self._step = step
        self._random = random
        self._concatenate = concatenate
        self._samples: dict[Source, Tensor | None] = {"real": real, "fake": fake}
        for which in gradient_inputs:
            if which != "latent":  # latents get theirs before G sees them
                self._samples[which] = self._sample(which).detach().requires_grad_()
        self._logits: dict[Source, Tensor] = {}
        self._features: dict[Source, Tensor] = {}

    @property
    def step(self) -> int:
        """The trainer's step, counted from 0."""
        return self._step

    @property
    def real(self) -> Tensor:
        """The real samples."""
        return self._sample("real")

    @property
    def fake(self) -> Tensor:
        """The generated samples."""
        return self._sample("fake")

    def _sample(self, which: Source) -> Tensor:
        sample = self._samples[which]
        if sample is None:
            raise BadArgumentsError(f"this StepContext was made without {which}=, which is read here")
        return sample

    def logits(self, which: Source) -> Tensor:
        """Return D's logits on the real or the fake samples, `(..., N)`, in float32 or wider."""
        if which not in self._logits:
            if self._concatenate:
                self._discriminate_both()
            else:
                self._logits[which] = self.discriminate(self._sample(which))
        return self._logits[which]

    def _discriminate_both(self) -> None:
        real, fake = self.real, self.fake
        if real.shape != fake.shape:
            raise ShapeError(
                f"real and fake must have the same shape to be concatenated, got {tuple(real.shape)} and "
                f"{tuple(fake.shape)}"
            )
        batch = 1 if isinstance(self._random, Sequence) else 0
        condition = None if self.condition is None else torch.cat([self.condition, self.condition], batch)
        logits = self._answer(torch.cat([real, fake], batch), condition)
        count = real.shape[batch]
        self._logits["real"], self._logits["fake"] = logits[..., :count], logits[..., count:]

    def features(self, which: Source) -> Tensor:
        """Return D's features of the real or the fake samples, for discriminators that offer them."""
        if which not in self._features:
            features: Callable[..., Tensor] | None = getattr(self.discriminator, "features", None)
            if features is None:
                raise BadArgumentsError(
                    f"{type(self.discriminator).__name__} offers no features(x, condition), which is read here"
                )
            self._features[which] = widened(features(self._sample(which), self.condition))
        return self._features[which]

    def discriminate(self, samples: Tensor) -> Tensor:
        """Return D's logits on other samples, under this step's condition; computed at each call."""
        return self._answer(samples, self.condition)

    def _answer(self, samples: Tensor, condition: Tensor | None) -> Tensor:
        arguments = (samples,) if condition is None else (samples, condition)
        logits = widened(self.discriminator(*arguments))
        # (R, N) with replicas; (N, 1) is the usual mistake, and no replicas of one sample
        column = logits.ndim > 1 and logits.shape[-1] == 1
        if not logits.ndim or column or logits.shape != samples.shape[: logits.ndim]:
            raise ShapeError(
                f"the discriminator must answer {len(samples)} samples with logits of shape "
                f"({len(samples)},), got {tuple(logits.shape)}; (N, 1) becomes (N,) by .squeeze(-1)"
            )
        return logits

    def normal_like(self, x: Tensor) -> Tensor:
        """Draw standard normal noise of `x`'s shape from the step's generator."""
        noise = torch.empty_like(x, requires_grad=False)
        for part, random in _by_replica(noise, self._random):
            part.normal_(generator=random)
        return noise

    def uniform_like(self, x: Tensor) -> Tensor:
        """Draw uniform noise in [0, 1) of `x`'s shape from the step's generator."""
        noise = torch.empty_like(x, requires_grad=False)
        for part, random in _by_replica(noise, self._random):
            part.uniform_(generator=random)
        return noise

    def changed(self, x: Tensor, change: Callable[..., Tensor]) -> Tensor:
        """Return samples randomly changed: `change(x, generator=...)`, by the step's generator."""
        if not isinstance(self._random, Sequence):
            return change(x, generator=self._random)
        return torch.stack([change(part, generator=random) for part, random in _by_replica(x, self._random)])


def _by_replica(x: Tensor, random: Random) -> Iterable[tuple[Tensor, torch.Generator | None]]:
    return zip(x, random, strict=True) if isinstance(random, Sequence) else [(x, random)]


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 where it is in half precision, else `x` itself.

    Example:
        >>> widened(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


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
