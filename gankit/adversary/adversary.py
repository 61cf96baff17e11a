"""`Adversary`: both halves of an adversarial term for a training loop of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from typing_extensions import override

from gankit.adversary.starts import Starts
from gankit.adversary.wrapped import DriftCheck, mean_over_ranks, unsynchronized
from gankit.answers import check_head_weights
from gankit.architectures import DISCRIMINATORS
from gankit.augmentations import Augmentation, AugmentationRef, build_augmentation
from gankit.context import StepContext
from gankit.errors import BadArgumentsError, ShapeError, check_count, check_finite, check_positive
from gankit.losses import LOSSES
from gankit.protocols import (
    AdversarialLoss,
    BuildsLosses,
    Half,
    ScheduledLoss,
)
from gankit.regularizers.building import RegularizerRef, build_regularizers
from gankit.spec import Spec
from gankit.training.step.gradients import frozen
from gankit.training.step.objectives import Objectives, mean_terms, weighted_sums

LossRef: TypeAlias = str | Spec | AdversarialLoss | ScheduledLoss | BuildsLosses


class Adversary(nn.Module):
    """A discriminator with a loss and penalties, as two terms for a training loop of your own.

    It computes the same terms as a step of `AdversarialTrainer`. It owns no optimizer, never calls `backward`, and
    freezes D during the generator's half, so that the generator's backward pass leaves no gradient in D. The halves may
    be called in either order, and with the same fakes or fresh ones; D's half detaches them.

    ```
    generator_loss     = share(step) * (weight * mean loss + the generator's regularizers)
    discriminator_loss = discriminator_weight * mean loss + D's regularizers
    ```

    where the mean loss is added over the heads of D by `head_weights`, `share` is 0 before `generator_start` and grows
    to 1 in `generator_ramp_steps` steps, and each regularizer has a weight of its own.

    Args:
        discriminator: D: a module, or the name or `Spec` of one in `DISCRIMINATORS`. It may be wrapped, such as by
            `DistributedDataParallel`, and is called through its wrapper. What it may return is listed in
            `gankit.answers`.
        loss: The name or `Spec` of a loss in `LOSSES`, a loss, or a schedule of losses.
        regularizers: Names, `Spec`s or objects. A mapping gives their names in the metrics.
        weight: The weight of the generator's loss.
        discriminator_weight: The weight of D's loss. It scales the loss, not the penalties: the hinge loss of
            taming-transformers has 0.5 here.
        head_weights: The weight of each of D's heads. None weights each by 1.
        generator_start: The first step of the generator's term. Before it, the term is zero.
        generator_ramp_steps: The number of steps in which the term grows linearly to its full weight.
        discriminator_start: The first step of D's training. None for 1,000 steps before `generator_start`, so that the
            term never begins with a D that was not trained, or 0 if there are not so many. A start that is not earlier
            than that of a later term is warned about.
        discriminator_every: D is trained in every `discriminator_every`-th step. To train it several times in a step,
            call `discriminator_loss` several times.
        crop: The size of a random window of the last dimensions, which D sees in place of the whole sample: `4096`
            for sound, `(64, 64)` for pictures. It is the same window for a real sample and its fake, another one in
            each call.
        augmentation: What changes real and fake samples before D sees them: a name in `AUGMENTATIONS`, a `Spec`, or a
            function `augment(x, *, generator)` through which gradients pass. Each call draws anew.
        answer: A function from what D returns to what `gankit.answers` lists, for a D of others.
        owns_discriminator: Whether D is a submodule of the adversary, and so part of its parameters and `state_dict`.
            None for a D that is given by name. A module that is an attribute of your own model as well would be saved
            twice.
        freeze: Whether D's parameters require no gradient during the generator's half. With FSDP, whose parameters
            cannot be frozen for a while, give False, and call `zero_grad` on D's optimizer before D's half.
        name: What precedes the names of metrics, such as `patch` for `patch/generator_loss`, where there are several
            adversaries.

    Attributes:
        discriminator: D.
        objectives: The loss and the regularizers.
        parts: Those of them that are modules with a state of their own, such as LeCam's averages.
        metrics: The newest value of each named result, 0-d, on the device and without a graph; the names are those of
            the trainer.

    Raises:
        BadArgumentsError: for a part that is not what its argument needs, or a regularizer that needs latents.
        BadValueError: for a number that is out of range.
        UnknownNameError: for a name that is in no registry.

    Example:
        >>> from gankit.blocks import linear_leaky_relu
        >>> D = nn.Sequential(linear_leaky_relu(4, 8), nn.Linear(8, 1))
        >>> adversary = Adversary(D, loss="hinge", regularizers=[Spec("r1", weight=1.0, every=16)])
        >>> x, y = torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
        >>> adversary.generator_loss(fake=y, real=x, step=0).backward()
        >>> y.grad.shape, D[1].weight.grad is None
        (torch.Size([5, 4]), True)
        >>> adversary.discriminator_loss(real=x, fake=y, step=0).backward()
        >>> sorted(adversary.metrics)
        ['discriminator_loss', 'fake_score', 'generator_loss', 'penalty/r1', 'real_score']
    """

    def __init__(
        self,
        discriminator: nn.Module | str | Spec,
        *,
        loss: LossRef = "hinge",
        regularizers: Mapping[str, RegularizerRef] | Sequence[RegularizerRef] = (),
        weight: float = 1.0,
        discriminator_weight: float = 1.0,
        head_weights: Sequence[float] | None = None,
        generator_start: int = 0,
        generator_ramp_steps: int = 0,
        discriminator_start: int | None = None,
        discriminator_every: int = 1,
        crop: int | Sequence[int] | None = None,
        augmentation: AugmentationRef | None = None,
        answer: Callable[[Any], Any] | None = None,
        owns_discriminator: bool | None = None,
        freeze: bool = True,
        name: str = "",
    ) -> None:
        super().__init__()
        check_finite("weight", weight)
        check_positive("discriminator_weight", discriminator_weight, zero=True)
        for one in head_weights or ():
            check_positive("head_weights", one, zero=True)
        self.weight = weight
        self.discriminator_weight = discriminator_weight
        self.head_weights: list[float] | None = None if head_weights is None else list(head_weights)
        self.starts: Starts = Starts(generator_start, generator_ramp_steps, discriminator_start, discriminator_every)
        self.freeze = freeze
        self.name = name
        self.metrics: dict[str, Tensor] = {}
        self._answer = answer
        self._crop: tuple[int, ...] = (crop,) if isinstance(crop, int) else tuple(crop or ())
        for size in self._crop:
            check_count("crop", size)
        self._augmentation: Augmentation | None = None if augmentation is None else build_augmentation(augmentation)
        self.objectives: Objectives = Objectives(_built_loss(loss), build_regularizers(regularizers))
        for key, part in self.objectives.regularizers.items():
            if getattr(part, "needs_latent", False) or "latent" in getattr(part, "gradient_inputs", ()):
                raise BadArgumentsError(
                    f"regularizer {key!r} needs the latents of G, which an Adversary does not have; it is for "
                    "AdversarialTrainer"
                )
        by_name = isinstance(discriminator, (str, Spec))
        network = DISCRIMINATORS.build(discriminator) if by_name else discriminator
        if not isinstance(network, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"discriminator must be a module, a name or a Spec, got {network!r}")
        # names of modules must not contain a dot, and a slash reads badly in the keys of a state
        modules = self.objectives.named_modules()
        parts = {key.rpartition("/")[2].replace(".", "_"): part for key, part in modules.items()}
        self.parts: nn.ModuleDict = nn.ModuleDict(parts)
        if by_name if owns_discriminator is None else owns_discriminator:
            self.discriminator: nn.Module = network
        else:
            self.__dict__["discriminator"] = network  # where torch does not see it as a child
        self._drift = DriftCheck(f"the discriminator of the adversary {name!r}" if name else "the discriminator")

    # --- what a loop calls -----------------------------------------------------------------------------------

    def is_due(self, half: Half, step: int) -> bool:
        """Return whether a half is due in a step, counted from 0.

        Example:
            >>> adversary = Adversary(nn.Linear(2, 1), generator_start=5000, discriminator_every=2)
            >>> [adversary.is_due("discriminator", step) for step in (3999, 4000, 4001)]
            [False, True, False]
        """
        return self.starts.is_due(half, step)

    def generator_loss(
        self,
        *,
        fake: Tensor,
        real: Tensor | None = None,
        condition: Any = None,
        fake_condition: Any = None,
        step: int | None = None,
    ) -> Tensor:
        """Return the weighted term for the generator, 0-d; zero, without a graph, in a step in which it is not due.

        Args:
            fake: What the generator made, with its graph, `(N, *sample_shape)`.
            real: Real samples of the same shape, for losses and regularizers that compare with them.
            condition: What D is conditioned on, or None: a tensor, or any nested structure of tensors.
            fake_condition: The condition of the fakes. None takes that of the real samples.
            step: The number of the step, counted from 0. It may be left out if nothing depends on it.

        Raises:
            ShapeError: for real and fake samples of different shapes, or answers of D that are no judgements.
            BadArgumentsError: for real samples or a step that are needed and missing.
        """
        at = self._step(step)
        if not self.is_due("generator", at):
            return torch.zeros((), device=fake.device)
        means, context = self._means("generator", real, fake, condition, fake_condition, at)
        total = self._total("generator", means, context) * self.starts.share(at)
        self._keep(context, means)
        return total

    def discriminator_loss(
        self,
        *,
        real: Tensor,
        fake: Tensor,
        condition: Any = None,
        fake_condition: Any = None,
        step: int | None = None,
    ) -> Tensor:
        """Return the term for D, weighted, 0-d.

        In a step in which it is not due it is a zero that `backward` accepts. Skip the step of D's optimizer then: with
        zero gradients, Adam still moves D by its momentum.

        Args:
            real: Real samples, `(N, *sample_shape)`.
            fake: What the generator made, of the same shape. It is detached.
            condition: What D is conditioned on, or None: a tensor, or any nested structure of tensors.
            fake_condition: The condition of the fakes. None takes that of the real samples.
            step: The number of the step, counted from 0. It may be left out if nothing depends on it.

        Raises:
            ShapeError: for real and fake samples of different shapes, or answers of D that are no judgements.
            BadArgumentsError: for a step that is needed and missing.
            DistributedError: If the weights of D differ between the ranks.
        """
        at = self._step(step)
        if not self.is_due("discriminator", at):
            return torch.zeros((), device=real.device, requires_grad=True)
        means, context = self._means("discriminator", real, fake, condition, fake_condition, at)
        total = self._total("discriminator", means, context)
        self._keep(context, means, self.objectives.scores(context, at))
        return total

    def generator_terms(
        self,
        *,
        fake: Tensor,
        real: Tensor | None = None,
        condition: Any = None,
        fake_condition: Any = None,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms for the generator by name, 0-d, without the weights of the loss and the heads.

        There are none in a step in which it is not due.

        The arguments are those of `generator_loss`. With several heads, each has a term of its own, such as
        `generator_loss/head0`. A regularizer keeps its own weight.
        """
        at = self._step(step)
        if not self.is_due("generator", at):
            return {}
        means, context = self._means("generator", real, fake, condition, fake_condition, at)
        self._keep(context, means)
        return means

    def discriminator_terms(
        self,
        *,
        real: Tensor,
        fake: Tensor,
        condition: Any = None,
        fake_condition: Any = None,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms for D by name, 0-d, without the weights of the loss and the heads; none if it is not due.

        The arguments are those of `discriminator_loss`. With several heads, each has a term of its own, such as
        `discriminator_loss/head0`. A penalty keeps its own weight and `every`.
        """
        at = self._step(step)
        if not self.is_due("discriminator", at):
            return {}
        means, context = self._means("discriminator", real, fake, condition, fake_condition, at)
        self._keep(context, means, self.objectives.scores(context, at))
        return means

    def constrain(self, *, step: int | None = None) -> None:
        """Apply the constraints that are due to D, such as weight clipping; call it after the step of D's optimizer."""
        self.objectives.constrain(self.discriminator, self._step(step))

    # --- what they compute -----------------------------------------------------------------------------------

    def _means(
        self, half: Half, real: Tensor | None, fake: Tensor, condition: Any, fake_condition: Any, step: int
    ) -> tuple[dict[str, Tensor], StepContext]:
        """Return the mean of each term of one half, with a graph, and the context that they come from."""
        if real is not None and real.shape != fake.shape:
            raise ShapeError(f"real and fake must have the same shape, got {tuple(real.shape)} and {tuple(fake.shape)}")
        if half == "discriminator":
            self._drift(self.discriminator)
            fake = fake.detach()
        real, fake, condition, fake_condition = self._seen(real, fake, condition, fake_condition)
        with frozen(self.discriminator, ()) if half == "generator" and self.freeze else nullcontext():
            context = _Context(
                half,
                self._answer,
                discriminator=self.discriminator,
                real=real,
                fake=fake,
                condition=condition,
                fake_condition=fake_condition,
                step=step,
                gradient_inputs=self.objectives.gradient_inputs(half, step) if half == "discriminator" else (),
                head_weights=self.head_weights,
            )
            means = mean_terms(self.objectives.terms(half, context, step), context)
            check_head_weights(self.head_weights, len(context.heads("fake")))
        return means, context

    def _total(self, half: Half, means: dict[str, Tensor], context: StepContext) -> Tensor:
        sums = weighted_sums(means, context)
        loss = sums.pop(f"{half}_loss")
        factor = self.weight if half == "generator" else self.discriminator_weight
        return sum(sums.values(), loss if factor == 1 else factor * loss)

    def _keep(self, context: StepContext, means: dict[str, Tensor], scores: dict[str, Tensor] | None = None) -> None:
        """Keep the named results, with penalties in the strength of their formula."""
        with torch.no_grad():
            results = {name: mean.detach() for name, mean in (weighted_sums(means, context) | means).items()}
            results = self.objectives.without_every(results) | (scores or {})
        before = f"{self.name}/" if self.name else ""
        self.metrics = self.metrics | {before + name: value for name, value in results.items()}

    def _seen(
        self, real: Tensor | None, fake: Tensor, condition: Any, fake_condition: Any
    ) -> tuple[Tensor | None, Tensor, Any, Any]:
        """Return what D sees of the samples and the conditions: a window, and changed by the augmentation."""
        if self._crop:
            cut = _window(fake, self._crop)
            real, fake = None if real is None else cut(real), cut(fake)
            # a picture that is a condition has the size of the sample; anything else, such as a label, stays
            condition, fake_condition = (tree_map_only(Tensor, cut, one) for one in (condition, fake_condition))
        if self._augmentation is not None:
            real = None if real is None else self._augmentation(real, generator=None)
            fake = self._augmentation(fake, generator=None)
        return real, fake, condition, fake_condition

    def _step(self, step: int | None) -> int:
        if step is not None:
            return step
        if self.starts.depend_on_step or self.objectives.depend_on_step:
            raise BadArgumentsError(
                "step must be the number of the step, counted from 0, since a start, a ramp, `every` or a schedule "
                "depends on it, got None"
            )
        return 0

    @override
    def forward(self, *_: Any, **__: Any) -> Any:
        """Refused: the halves are `generator_loss` and `discriminator_loss`."""
        raise BadArgumentsError(
            "an Adversary is not called itself, got a call; use generator_loss or discriminator_loss"
        )

    @override
    def extra_repr(self) -> str:
        """Return the loss and the weights."""
        return f"weight={self.weight}, discriminator_weight={self.discriminator_weight}, {self.starts}"


class _Context(StepContext):
    """A context that calls a wrapped discriminator as its wrapper needs it, and whose fakes come without latents."""

    def __init__(self, half: Half, answer: Callable[[Any], Any] | None, **arguments: Any) -> None:
        self._half: Half = half
        self._answered = answer
        self._is_called = False
        super().__init__(**arguments)

    @override
    def call_discriminator(self, *arguments: Any) -> Any:
        """Call D; only the first pass of D's half prepares an exchange of gradients."""
        with ExitStack() as stack:
            if self._half == "generator" or self._is_called:
                stack.enter_context(unsynchronized(self.discriminator))
            if self._half == "discriminator" and arguments[0].requires_grad:
                # a penalty differentiates this pass twice, which torch.compile cannot
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            returned = self.discriminator(*arguments)
        self._is_called = True
        return returned if self._answered is None else self._answered(returned)

    @override
    def mean_over_ranks(self, x: Tensor) -> Tensor:
        """Return the mean of a statistic over the processes of torch's default group."""
        return mean_over_ranks(x)


def _built_loss(loss: LossRef) -> AdversarialLoss | ScheduledLoss | BuildsLosses:
    return LOSSES.build(loss) if isinstance(loss, (str, Spec)) else loss


def _window(like: Tensor, sizes: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Return a function that cuts one random window out of tensors of the size of `like`, and leaves others alone."""
    whole = like.shape[2:]
    if len(sizes) != len(whole) or any(size > full for size, full in zip(sizes, whole, strict=True)):
        raise ShapeError(f"crop must be at most the size {tuple(whole)} of the samples, got {sizes}")
    starts = [int(torch.randint(full - size + 1, ())) for size, full in zip(sizes, whole, strict=True)]

    def cut(x: Tensor) -> Tensor:
        if x.shape[2:] != whole:
            return x
        for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), 2):
            x = x.narrow(axis, start, size)
        return x

    return cut
