"""The check of the two halves of an adversarial term, as a training loop of your own has them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook

from gankit.protocols import Half
from gankit.testing.rules import Rules, Subject, Violation, title_of
from gankit.testing.tensors import shape_text, standard_normal

_BATCH_SIZE = 4


class HalfFunction(Protocol):
    """One half of an adversarial term: a function that calls the given discriminator and returns a loss, 0-d."""

    def __call__(self, *, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss."""
        ...


class _Judge(nn.Module):
    """Judges each position by the mean of its channels, so that a rule chooses the judgements by its samples.

    Attributes:
        judged: The judgements of each pass through which the last backward pass went, with their gradients.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight: nn.Parameter = nn.Parameter(torch.full((channels,), 1 / channels))
        self.judged: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return one judgement per position, `(N, 1, *positions)`."""
        judgements = (x.movedim(1, -1) * self.weight).sum(-1)[:, None]
        if judgements.requires_grad:
            values = judgements.detach()

            def keep(gradients: Sequence[Tensor | None]) -> None:
                self.judged += [(values, gradient.detach()) for gradient in gradients if gradient is not None]

            register_multi_grad_hook([judgements], keep)
        return judgements


class _HalvesSubject(Subject):
    def __init__(
        self, generator_loss: HalfFunction, discriminator_loss: HalfFunction, sample_shape: Sequence[int]
    ) -> None:
        super().__init__(f"the pair ({title_of(generator_loss)}, {title_of(discriminator_loss)})")
        self.functions: dict[Half, HalfFunction] = {"generator": generator_loss, "discriminator": discriminator_loss}
        self.sample_shape = tuple(sample_shape)

    def judge(self) -> _Judge:
        return _Judge(self.sample_shape[0])

    def samples(self, *levels: float) -> Tensor:
        """Return samples that are judged by each level in turn, position by position."""
        positions = self.sample_shape[1:]
        one = torch.tensor(levels).repeat(math.prod(positions) // len(levels) + 1)[: math.prod(positions)]
        return one.view(1, 1, *positions).repeat(_BATCH_SIZE, self.sample_shape[0], *(1 for _ in positions))

    def noise(self, seed: int) -> Tensor:
        return standard_normal(_BATCH_SIZE, *self.sample_shape, seed=seed)

    def __call__(self, half: Half, judge: _Judge, real: Tensor, fake: Tensor) -> Tensor:
        self.current_call = f"the {half}'s half of {_BATCH_SIZE} samples of shape {self.sample_shape}"
        return self.as_tensor(self.functions[half](discriminator=judge, real=real, fake=fake))

    def backward(self, half: Half, judge: _Judge, real: Tensor, fake: Tensor) -> Tensor:
        """Call a half and differentiate it; return the gradient that reaches what the fakes were made of, or zeros."""
        made_of = fake.clone().requires_grad_()
        loss = self(half, judge, real, made_of * 1)
        judge.judged.clear()  # gradients that a penalty has taken on the way
        if loss.requires_grad:
            torch.autograd.backward(loss)
        return torch.zeros_like(made_of) if made_of.grad is None else made_of.grad

    def pulls(self, half: Half, real: Tensor, fake: Tensor, at: Sequence[float]) -> list[float]:
        """Return the summed gradient of the judgements that are nearest to each of two levels."""
        judge = self.judge()
        self.backward(half, judge, real, fake)
        first, second = at
        sums = [0.0, 0.0]
        for values, gradient in judge.judged:
            nearer = (values - first).abs() < (values - second).abs()
            farther = (values - first).abs() > (values - second).abs()
            for i, where in enumerate((nearer, farther)):
                sums[i] += gradient[where].sum().item()
        return sums


RULES = Rules[_HalvesSubject]("check_halves")


def check_halves(
    generator_loss: HalfFunction,
    discriminator_loss: HalfFunction,
    *,
    sample_shape: Sequence[int] = (3, 8, 8),
    skip: Collection[str] = (),
) -> None:
    """Check the two halves of the adversarial term of your own training loop.

    Each half is a function that is called by the keywords `discriminator`, `real` and `fake` and returns a loss, 0-d.
    The check calls them with a discriminator of its own, which judges each position, `(N, 1, *positions)`.

    Args:
        generator_loss: The generator's half.
        discriminator_loss: The discriminator's half.
        sample_shape: The shape of a sample, channels first: by default a picture.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> def generator_loss(discriminator, real, fake):
        ...     return -discriminator(fake.detach()).mean()
        >>> def discriminator_loss(discriminator, real, fake):
        ...     return (1 - discriminator(real)).relu().mean() + (1 + discriminator(fake.detach())).relu().mean()
        >>> check_halves(generator_loss, discriminator_loss)
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_halves: the pair (generator_loss, discriminator_loss) breaks the rule \
'generator-gradient': the generator's half gives no gradient to the fakes; the usual cause is a .detach() of the \
fakes, or a torch.no_grad() around D
    """
    RULES.check(_HalvesSubject(generator_loss, discriminator_loss, sample_shape), skip)


def _norm(gradient: Tensor) -> float:
    return gradient.square().sum().sqrt().item()


_HALVES: tuple[Half, Half] = ("generator", "discriminator")


@RULES.rule("scalar", "a missing .mean()")
def _scalar_violation(subject: _HalvesSubject) -> Violation:
    for half in _HALVES:
        loss = subject(half, subject.judge(), subject.noise(1), subject.noise(2).requires_grad_() * 1)
        if loss.ndim or not loss.isfinite():
            return f"the {half}'s half returns {f'the shape {shape_text(loss)}' if loss.ndim else loss.item()}"
    return None


@RULES.rule("generator-gradient", "a .detach() of the fakes, or a torch.no_grad() around D")
def _generator_gradient_violation(subject: _HalvesSubject) -> Violation:
    if not subject.backward("generator", subject.judge(), subject.noise(1), subject.noise(2)).any():
        return "the generator's half gives no gradient to the fakes"
    return None


@RULES.rule(
    "frozen-discriminator",
    "D's parameters, which require a gradient in the generator's half; if D's optimizer empties its gradients before "
    "D's half, skip this rule",
)
def _frozen_discriminator_violation(subject: _HalvesSubject) -> Violation:
    judge = subject.judge()
    subject.backward("generator", judge, subject.noise(1), subject.noise(2))
    if judge.weight.grad is not None:
        norm = _norm(judge.weight.grad)
        return f"the generator's half leaves a gradient of norm {norm:.3g} in D's parameters"
    return None


@RULES.rule("detached-fakes", "a missing fake.detach() in D's half")
def _detached_fakes_violation(subject: _HalvesSubject) -> Violation:
    gradient = subject.backward("discriminator", subject.judge(), subject.noise(1), subject.noise(2))
    if gradient.any():
        return f"the discriminator's half gives the fakes a gradient of norm {_norm(gradient):.3g}"
    return None


@RULES.rule("discriminator-gradient", "a D that stays frozen after the generator's half, a .detach() or a no_grad()")
def _discriminator_gradient_violation(subject: _HalvesSubject) -> Violation:
    judge = subject.judge()
    subject.backward("generator", judge, subject.noise(1), subject.noise(2))
    judge.zero_grad()
    subject.backward("discriminator", judge, subject.noise(1), subject.noise(2))
    if judge.weight.grad is None or not judge.weight.grad.any():
        return "after the generator's half, the discriminator's half gives no gradient to D's parameters"
    return None


@RULES.rule("discriminator-direction", "swapped real and fake samples, swapped targets, or a wrong sign")
def _discriminator_direction_violation(subject: _HalvesSubject) -> Violation:
    real, fake = subject.pulls("discriminator", subject.samples(-0.5), subject.samples(0.5), (-0.5, 0.5))
    if not real < 0 or not fake > 0:
        return (
            "at judgements of -0.5 on real samples, which should rise, and 0.5 on fakes, which should fall, the "
            f"discriminator's half has the gradients {real:.3g} and {fake:.3g}"
        )
    return None


@RULES.rule("generator-direction", "the discriminator's target for fakes in the generator's half, or a wrong sign")
def _generator_direction_violation(subject: _HalvesSubject) -> Violation:
    fake, _ = subject.pulls("generator", subject.samples(0.5), subject.samples(-0.5), (-0.5, 0.5))
    if not fake < 0:
        return f"at judgements of -0.5 on fakes, which should rise, the generator's half has the gradient {fake:.3g}"
    return None


@RULES.rule("logits", "a sigmoid or tanh before a loss of logits")
def _logits_violation(subject: _HalvesSubject) -> Violation:
    # where D is confidently wrong and has most to learn, a bounded function of the logits removes the gradient
    near, far = (
        subject.pulls("discriminator", subject.samples(-level), subject.samples(level), (-level, level))
        for level in (0.5, 50.0)
    )
    if any(abs(b) < 1e-2 * abs(a) for a, b in zip(near, far, strict=True)):
        return (
            "at judgements of -50 on real samples and 50 on fakes, the discriminator's half has the gradients "
            f"{far[0]:.3g} and {far[1]:.3g}; at -0.5 and 0.5 they are {near[0]:.3g} and {near[1]:.3g}"
        )
    return None


@RULES.rule(
    "non-saturating",
    "a sigmoid or tanh in the generator's half, or log(1 - D(G(z))); if it is meant, skip this rule",
)
def _non_saturating_violation(subject: _HalvesSubject) -> Violation:
    near, far = (
        subject.pulls("generator", subject.samples(level), subject.samples(-level), (-level, level))[0]
        for level in (0.5, 50.0)
    )
    if abs(far) < 1e-2 * abs(near):
        return (
            f"at judgements of -50 on fakes, the generator's half has the gradient {far:.3g}; at -0.5 it is {near:.3g}"
        )
    return None


@RULES.rule("positions", "a mean over the positions or the batch before the loss; take the mean of the losses")
def _positions_violation(subject: _HalvesSubject) -> Violation:
    if math.prod(subject.sample_shape[1:]) < 2:
        return None
    cases: tuple[tuple[Half, str], ...] = (("discriminator", "real"), ("discriminator", "fake"), ("generator", "fake"))
    for half, which in cases:

        def gradients(*at: float, half: Half = half, which: str = which) -> list[float]:
            # judgements of 0 on the other side are as near to one level as to the other, and are not counted
            samples = {"real": subject.samples(0.0), "fake": subject.samples(0.0), which: subject.samples(*at)}
            return subject.pulls(half, samples["real"], samples["fake"], (-3.0, 3.0))

        alone = gradients(-3.0)[0], gradients(3.0)[1]
        together = gradients(-3.0, 3.0)
        scale = max(abs(one) for one in alone)
        if abs(alone[0] - alone[1]) > 1e-2 * scale and abs(together[0] - together[1]) < 1e-4 * scale:
            return (
                f"at judgements of -3 and 3 at the positions of one {which} sample, the {half}'s half has the same "
                f"gradient for both, {together[0]:.3g}; for samples of -3 alone and of 3 alone it is "
                f"{alone[0]:.3g} and {alone[1]:.3g}"
            )
    return None
