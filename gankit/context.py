"""`StepContext`: the data that the objective of one half of a training step is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from gankit.answers import Answer, Features, Judgements, Reduction, per_sample, widened
from gankit.errors import BadArgumentsError, ShapeError
from gankit.protocols import GradientInput, Random, Source, features_of


class StepContext:
    """The networks and samples of one half of a step; D's judgements are computed at the first use and kept.

    So a penalty on D(real) reuses the forward pass of the loss. The trainer makes one context for each half of a
    step. In a training loop of your own, you make it yourself; all arguments are keywords. What D may return is listed
    in `gankit.answers`.

    Args:
        discriminator: D, called as `D(x)`, or as `D(x, condition)` if there is a condition.
        generator: G.
        real: Real samples, `(N, *sample_shape)`.
        fake: G(latent), detached in the discriminator's half, with its graph in the generator's.
        latent: The latents from which `fake` was generated.
        condition: The condition of both networks, such as labels or pictures, or None. It may be any nested structure
            of tensors.
        fake_condition: The condition of the fakes. None takes that of the real samples.
        step: The trainer's step, counted from 0.
        random: The random generator for `normal_like`, `uniform_like` and `changed`; None for torch's default
            generator; with replicas a sequence with one for each of them.
        gradient_inputs: The samples, `real` or `fake`, with respect to which a penalty differentiates. They are
            detached and then require a gradient.
        replicas: The number of replicas R if samples are `(R, N, *sample_shape)` and logits `(R, N)`. None is for
            single networks, whose logits are `(N,)`.
        concatenate: Evaluate D once on real and fake samples together rather than twice. D must not mix the samples
            of a batch.
        head_weights: The weight of each of D's heads. None weights each by 1.

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
        condition: Any = None,
        fake_condition: Any = None,
        step: int = 0,
        random: Random = None,
        gradient_inputs: Iterable[GradientInput] = (),
        replicas: int | None = None,
        concatenate: bool = False,
        head_weights: Sequence[float] | None = None,
    ) -> None:
        generators = len(random) if isinstance(random, Sequence) else None
        if generators != replicas and (generators is not None or random is not None):
            raise BadArgumentsError(
                f"random must be one generator for each replica, got {generators or 1} for replicas={replicas}"
            )
        self.discriminator = discriminator
        self.generator = generator
        self.latent = latent
        self.condition: Any = condition
        self.fake_condition: Any = condition if fake_condition is None else fake_condition
        self.replicas = replicas
        self.head_weights = head_weights
        self._step = step
        self._random = random
        self._concatenate = concatenate
        self._samples: dict[Source, Tensor | None] = {"real": real, "fake": fake}
        for which in gradient_inputs:
            if which != "latent":  # latents must require a gradient before G is called
                self._samples[which] = self._sample(which).detach().requires_grad_()
        self._judgements: dict[Source, Judgements] = {}
        self._features: dict[Source, Features] = {}

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

    # --- the batch -------------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of the batch of fakes, or of real samples if there are no fakes: `(N,)`, `(R, N)` with replicas."""
        fake = self._samples["fake"]
        return self._batch_shape_of(self.real if fake is None else fake)

    @property
    def batch_size(self) -> int:
        """The number of samples, N, of each replica."""
        return self.batch_shape[-1]

    def _batch_shape_of(self, samples: Tensor) -> tuple[int, ...]:
        # the number of replicas is not guessed from a shape, in which (N, 3) would be N replicas of 3 samples
        if self.replicas is not None and samples.shape[:1] != (self.replicas,):
            raise ShapeError(
                f"the samples of {self.replicas} replicas must have the shape ({self.replicas}, N, ...), got "
                f"{tuple(samples.shape)}"
            )
        return tuple(samples.shape[: 1 if self.replicas is None else 2])

    # --- what D answers --------------------------------------------------------------------------------------

    def answer(self, which: Source | Tensor) -> Answer:
        """Return D's answer for the real, the fake or other samples; a tensor that D returned is its only head."""
        return self.judgements(which).answer

    def heads(self, which: Source | Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each head of D for the real, the fake or other samples, in float32 or wider.

        The P positions of a head are folded into the last dimension, sample by sample: `(..., N * P)`.
        """
        return self.judgements(which).heads

    def logits(self, which: Source | Tensor) -> Tensor:
        """Return the logits of D's only head for the real, the fake or other samples, in float32 or wider.

        They are `(..., N)`, or `(..., N * P)` with P positions.

        Raises:
            BadArgumentsError: If D has several heads.
        """
        heads = list(self.heads(which))
        if len(heads) > 1:
            raise BadArgumentsError(
                f"logits are those of a discriminator's only head, got {len(heads)} heads; use heads(which) or "
                "sample_logits(which)"
            )
        return heads[0]

    def sample_logits(self, which: Source | Tensor, reduction: Reduction = "mean") -> Tensor:
        """Return one logit per sample, `(..., N)`: the mean of its judgements, added over the heads by their weights.

        Args:
            which: The real or the fake samples, or other samples.
            reduction: `sum` for the sum of the judgements instead of their mean.
        """
        return self.judgements(which).per_sample(self.head_weights, reduction)

    def judgements(self, which: Source | Tensor) -> Judgements:
        """Return D's judgements of the real or the fake samples; those of other samples are computed in every call.

        Args:
            which: The real or the fake samples, or other samples, which have the condition of the real ones.
        """
        if isinstance(which, Tensor):
            return self._judge(which, self.condition)
        if which not in self._judgements:
            if self._concatenate:
                self._judge_both()
            else:
                condition = self.condition if which == "real" else self.fake_condition
                self._judgements[which] = self._judge(self._sample(which), condition)
        return self._judgements[which]

    def judge(self, samples: Tensor, like: Source) -> Judgements:
        """Return D's judgements of other samples with the condition of the real or of the fake ones.

        Args:
            samples: The samples, `(N, *sample_shape)`.
            like: The samples whose condition they have.
        """
        return self._judge(samples, self.condition if like == "real" else self.fake_condition)

    def mean_over_ranks(self, x: Tensor) -> Tensor:
        """Return the mean of a statistic over the processes that train together.

        Here it is `x` itself: the trainer averages the state of the penalties after each update. `Adversary` exchanges
        it with the other processes.
        """
        return x

    def _judge_both(self) -> None:
        real, fake = self.real, self.fake
        if real.shape != fake.shape:
            raise ShapeError(
                f"real and fake must have the same shape to be concatenated, got {tuple(real.shape)} and "
                f"{tuple(fake.shape)}"
            )
        axis = 0 if self.replicas is None else 1
        condition = _joined(self.condition, self.fake_condition, axis)
        # split before they are folded, because samples come first in a head
        both = self._judge(torch.cat([real, fake], axis), condition)
        self._judgements["real"], self._judgements["fake"] = both.split(real.shape[axis])

    def features(self, which: Source) -> Features:
        """Return D's features of the real or the fake samples, in float32 or wider.

        They come from D's `features(x, condition)` if it has such a method, and otherwise from the `Answer` that D has
        returned for these samples.

        Raises:
            BadArgumentsError: If D has neither.
        """
        if which not in self._features:
            method = features_of(self.discriminator)
            condition = self.condition if which == "real" else self.fake_condition
            found = self.answer(which).features if method is None else method(self._sample(which), condition)
            if found is None:
                raise BadArgumentsError(
                    "the discriminator must have features(x, condition), or return an Answer with features=, for this "
                    f"term, got a {type(self.discriminator).__name__} without"
                )
            self._features[which] = tree_map_only(Tensor, widened, found)
        return self._features[which]

    def discriminate(self, samples: Tensor) -> Tensor:
        """Return the logits of D's only head for other samples; the same as `logits(samples)`."""
        return self.logits(samples)

    def _judge(self, samples: Tensor, condition: Any) -> Judgements:
        batch_shape = self._batch_shape_of(samples)
        arguments = (samples,) if condition is None else (samples, condition)
        return Judgements(self.call_discriminator(*arguments), batch_shape)

    def call_discriminator(self, *arguments: Any) -> Any:
        """Return what D returns for samples, and for their condition if there is one."""
        return self.discriminator(*arguments)

    def per_sample(self, which: Source, heads: Sequence[Tensor]) -> Tensor:
        """Return one value per sample, `(..., N)`: the mean of its judgements' values, added over the heads by weight.

        Args:
            which: The samples that were judged.
            heads: The values of the judgements of each head, in the shapes of `heads(which)`.
        """
        return per_sample(heads, self._batch_shape_of(self._sample(which)), self.head_weights)

    # --- random numbers --------------------------------------------------------------------------------------

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


def _joined(real: Any, fake: Any, axis: int) -> Any:
    """Return the conditions of real and fake samples together."""
    ours, structure = tree_flatten(real)
    others, other_structure = tree_flatten(fake)
    if structure != other_structure:
        raise BadArgumentsError(
            "condition and fake_condition must have the same structure to be concatenated, got "
            f"{structure} and {other_structure}"
        )
    return tree_unflatten(
        [
            torch.cat([one, other], axis) if isinstance(one, Tensor) else one
            for one, other in zip(ours, others, strict=True)
        ],
        structure,
    )


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
