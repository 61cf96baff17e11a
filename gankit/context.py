"""`StepContext`: what the objectives of one half of a training step see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, ShapeError
from gankit.protocols import GradientInput, Random, Source, features_of


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
            features = features_of(self.discriminator)
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
