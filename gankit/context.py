"""`StepContext`: the data that the objective of one half of a training step is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, ShapeError
from gankit.protocols import GradientInput, Random, Source, features_of


class StepContext:
    """The networks and samples of one half of a step; D's logits are computed at the first use and kept.

    So a penalty on D(real) reuses the forward pass of the loss. The trainer makes one context for each half of a
    step. In a training loop of your own, you make it yourself; all arguments are keywords.

    Args:
        discriminator: D, called as `D(x)`, or as `D(x, condition)` if there is a condition.
        generator: G.
        real: Real samples, `(N, *sample_shape)`.
        fake: G(latent), detached in the discriminator's half, with its graph in the generator's.
        latent: The latents from which `fake` was generated.
        condition: The condition of both networks, or None.
        step: The trainer's step, counted from 0.
        random: The random generator for `normal_like`, `uniform_like` and `changed`; None for torch's default
            generator; with replicas a sequence with one for each of them.
        gradient_inputs: The samples, `real` or `fake`, with respect to which a penalty differentiates. They are
            detached and then require a gradient.
        replicas: The number of replicas R if samples are `(R, N, *sample_shape)` and logits `(R, N)`. None is for
            single networks, whose logits are `(N,)`.
        concatenate: Evaluate D once on real and fake samples together rather than twice. D must not mix the samples
            of a batch.

    Raises:
        BadArgumentsError: for random generators that are not one for each replica.

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
        replicas: int | None = None,
        concatenate: bool = False,
    ) -> None:
        generators = len(random) if isinstance(random, Sequence) else None
        if generators != replicas and (generators is not None or random is not None):
            raise BadArgumentsError(
                f"random must be one generator for each replica, got {generators or 1} for replicas={replicas}"
            )
        self.discriminator = discriminator
        self.generator = generator
        self.latent = latent
        self.condition = condition
        self._step = step
        self._random = random
        self._replicas = replicas
        self._concatenate = concatenate
        self._samples: dict[Source, Tensor | None] = {"real": real, "fake": fake}
        for which in gradient_inputs:
            if which != "latent":  # latents must require a gradient before G is called
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
            raise BadArgumentsError(f"a StepContext must have {which}= for this term, got one without")
        return sample

    def logits(self, which: Source) -> Tensor:
        """Return D's logits of the real or the fake samples, `(..., N)`, in float32 or wider."""
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
        batch = 0 if self._replicas is None else 1
        condition = None if self.condition is None else torch.cat([self.condition, self.condition], batch)
        logits = self._answer(torch.cat([real, fake], batch), condition)
        count = real.shape[batch]
        self._logits["real"], self._logits["fake"] = logits[..., :count], logits[..., count:]

    def features(self, which: Source) -> Tensor:
        """Return D's features of the real or the fake samples, if D has `features(x, condition)`."""
        if which not in self._features:
            features = features_of(self.discriminator)
            if features is None:
                raise BadArgumentsError(
                    f"the discriminator must have features(x, condition) for this term, got a "
                    f"{type(self.discriminator).__name__} without"
                )
            self._features[which] = widened(features(self._sample(which), self.condition))
        return self._features[which]

    def discriminate(self, samples: Tensor) -> Tensor:
        """Return D's logits of other samples under this step's condition. They are computed in every call."""
        return self._answer(samples, self.condition)

    def _answer(self, samples: Tensor, condition: Tensor | None) -> Tensor:
        arguments = (samples,) if condition is None else (samples, condition)
        logits = widened(one_tensor("discriminator", self.discriminator(*arguments)))
        # the number of replicas is not guessed from a shape, in which (N, 3) would be N replicas of 3 samples
        wanted = samples.shape[: 1 if self._replicas is None else 2]
        if logits.shape != wanted or wanted[:-1] != (() if self._replicas is None else (self._replicas,)):
            of = f"{len(samples)} samples" if self._replicas is None else f"{self._replicas} replicas"
            raise wrong_logits(logits, tuple(wanted), of)
        return logits

    def normal_like(self, x: Tensor) -> Tensor:
        """Draw standard normal noise in the shape of `x` from the step's random generator."""
        noise = torch.empty_like(x, requires_grad=False)
        for part, random in _by_replica(noise, self._random):
            part.normal_(generator=random)
        return noise

    def uniform_like(self, x: Tensor) -> Tensor:
        """Draw uniform noise in [0, 1) in the shape of `x` from the step's random generator."""
        noise = torch.empty_like(x, requires_grad=False)
        for part, random in _by_replica(noise, self._random):
            part.uniform_(generator=random)
        return noise

    def changed(self, x: Tensor, change: Callable[..., Tensor]) -> Tensor:
        """Return `change(x, generator=...)`, with the step's random generator."""
        if not isinstance(self._random, Sequence):
            return change(x, generator=self._random)
        return torch.stack([change(part, generator=random) for part, random in _by_replica(x, self._random)])


def _by_replica(x: Tensor, random: Random) -> Iterable[tuple[Tensor, torch.Generator | None]]:
    return zip(x, random, strict=True) if isinstance(random, Sequence) else [(x, random)]


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is in half precision, and `x` itself otherwise.

    Example:
        >>> widened(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def one_tensor(role: str, answer: object) -> Tensor:
    """Return what a network has returned, or raise `BadArgumentsError` unless it is one floating-point tensor.

    Args:
        role: What the network is: `generator` or `discriminator`.
        answer: What it has returned.

    Example:
        >>> one_tensor("discriminator", (torch.zeros(2), None))
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: the discriminator must return one tensor of floating-point numbers, got tuple
    """
    if isinstance(answer, Tensor) and answer.is_floating_point():
        return answer
    got = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
    raise BadArgumentsError(f"the {role} must return one tensor of floating-point numbers, got {got}")


def wrong_logits(logits: Tensor, wanted: tuple[int, ...], of: str) -> ShapeError:
    """Return the error for logits that are not one number per sample, with what makes them so.

    Args:
        logits: The logits.
        wanted: The shape that they should have.
        of: What they are the logits of, in words.

    Example:
        >>> raise wrong_logits(torch.zeros(2, 1), (2,), "2 samples")
        Traceback (most recent call last):
        gankit.errors.ShapeError: the discriminator must return logits of shape (2,) for 2 samples, got (2, 1); \
(N, 1) becomes (N,) by .squeeze(-1)
    """
    shape = tuple(logits.shape)
    if shape == (*wanted, 1):
        way = "(N, 1) becomes (N,) by .squeeze(-1)"
    elif shape and shape == (*wanted, *[1] * (len(shape) - len(wanted))):
        way = f".flatten({len(wanted) - 1}) makes (N,) of it"
    else:
        way = "return one number per sample, such as the mean over its positions"
    return ShapeError(f"the discriminator must return logits of shape {wanted} for {of}, got {shape}; {way}")
