"""The check of a regularizer or a constraint."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gankit.context import StepContext
from gankit.errors import GankitError
from gankit.protocols import Constraint, GradientInput, Regularizer, Stateful
from gankit.testing.constraints import RULES as CONSTRAINT_RULES
from gankit.testing.constraints import ConstraintSubject, every_violation
from gankit.testing.half_step import BATCH_SIZE, HalfStep, Judged
from gankit.testing.host_reads import count_host_reads
from gankit.testing.isolation import changes_global_random_state
from gankit.testing.rules import (
    FIXED_DEVICE_CAUSE,
    GLOBAL_RANDOM_CAUSE,
    HOST_READ_CAUSE,
    Rules,
    Subject,
    Violation,
    message_of,
    title_of,
)
from gankit.testing.tensors import gradients_of, shape_text, standard_normal

_GRADIENT_INPUTS: frozenset[GradientInput] = frozenset({"real", "fake", "latent"})


@runtime_checkable
class _WeightedRegularizer(Regularizer, Protocol):
    weight: float


class _RegularizerSubject(Subject):
    def __init__(self, part: Regularizer, sample_shapes: Sequence[Sequence[int]], batch_statistic: bool) -> None:
        super().__init__(title_of(part))
        self.part = part
        self.sample_shapes = [tuple(shape) for shape in sample_shapes]
        self.batch_statistic = batch_statistic

    def half_step(
        self,
        shape: Sequence[int] | None = None,
        *,
        conditional: bool = False,
        device: str = "cpu",
        judged: Judged = "samples",
    ) -> HalfStep:
        return HalfStep(self.part, shape or self.sample_shapes[0], conditional, device, judged)

    def __call__(
        self,
        step: HalfStep,
        *,
        fake: Tensor | None = None,
        all_inputs: bool = False,
        part: Regularizer | None = None,
        copied: bool = True,
    ) -> Tensor:
        part = self.part if part is None else part
        if copied:  # so that a part with a state always starts from the same one
            part = copy.deepcopy(part)
        if isinstance(part, nn.Module):
            part.to(step.device)
        fake = step.generate(part) if fake is None else fake
        inputs = part.gradient_inputs if step.half == "discriminator" else frozenset[GradientInput]()
        context = StepContext(
            discriminator=step.discriminator,
            generator=step.generator,
            real=step.real,
            fake=fake,
            latent=step.latent,
            condition=step.condition,
            step=1000,
            random=torch.Generator().manual_seed(7) if step.device == "cpu" else None,
            gradient_inputs=_GRADIENT_INPUTS if all_inputs else inputs,
        )
        judged = step.discriminator.judged
        self.current_call = (
            f"the call on {BATCH_SIZE} samples of shape {shape_text(step.real[0])}, device {step.device}"
            f"{', with labels' if step.condition is not None else ''}"
            f"{'' if judged == 'samples' else f', with a D that judges {judged}'},"
        )
        return self.as_tensor(part(context))


RULES = Rules[_RegularizerSubject]("check_regularizer")


def check_regularizer(
    regularizer: Regularizer | Constraint,
    *,
    batch_statistic: bool = False,
    sample_shapes: Sequence[Sequence[int]] = ((3, 8, 8), (1, 8, 8), (2,)),
    skip: Collection[str] = (),
) -> None:
    """Check that a regularizer follows the rules of `Regularizer`, or a constraint those of `Constraint`.

    The check calls a regularizer in its own half of a step, with small networks, fakes and a random generator as in
    the trainer.

    Args:
        regularizer: The regularizer or constraint, as an object.
        batch_statistic: Whether a sample's penalty may depend on the rest of the batch.
        sample_shapes: The shapes of samples that it must accept: by default pictures with 3 channels and with 1, and
            points in the plane. Most rules use the first.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> from gankit.regularizers import R1
        >>> check_regularizer(R1())
        >>> class NormOfTheBatch(R1):
        ...     def __call__(self, context):
        ...         (g,) = torch.autograd.grad(context.logits("real").sum(), context.real, create_graph=True)
        ...         return self.weight / 2 * g.square().sum().expand(len(g))
        >>> check_regularizer(NormOfTheBatch())
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_regularizer: NormOfTheBatch(weight=10.0, every=1, reduction='mean', \
sigma=None) breaks the rule 'per-sample': the first sample's penalty depends on the other samples of a batch of 5; the \
usual cause is a norm or a mean over the whole batch; for an intended batch statistic, pass batch_statistic=True
    """
    if isinstance(regularizer, Constraint) and not isinstance(regularizer, Regularizer):
        CONSTRAINT_RULES.check(ConstraintSubject(regularizer), skip)
    else:
        RULES.check(_RegularizerSubject(regularizer, sample_shapes, batch_statistic), skip)


_DEPENDS = f"depends on the other samples of a batch of {BATCH_SIZE}"


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def _gradients(penalty: Tensor, network: nn.Module) -> list[Tensor]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not penalty.requires_grad:
        return []
    return [gradient for gradient in gradients_of(penalty.mean(), parameters) if gradient is not None]


@RULES.rule("protocol", "a missing member, a misspelled half, or a class instead of an object")
def _protocol_violation(subject: _RegularizerSubject) -> Violation:
    if isinstance(subject.part, type):
        return "it is a class, not an object"
    missing = [name for name in ("half", "every", "gradient_inputs") if not hasattr(subject.part, name)]
    if missing:
        return f"it has no {', '.join(missing)}"
    if not isinstance(subject.part, Regularizer):
        return "it is not callable and has no apply"
    if subject.part.half not in ("discriminator", "generator"):
        return f"half is {subject.part.half!r}, neither 'discriminator' nor 'generator'"
    inputs: object = subject.part.gradient_inputs
    if not isinstance(inputs, frozenset) or not inputs <= _GRADIENT_INPUTS:
        return f"gradient_inputs is {inputs!r}, not a frozenset of 'real', 'fake' and 'latent'"
    return every_violation(subject.part)


@RULES.rule("gradient-inputs", "gradient_inputs that lack a tensor with respect to which the penalty differentiates")
def _gradient_inputs_violation(subject: _RegularizerSubject) -> Violation:
    if subject.part.half == "generator":
        return None
    try:
        subject(subject.half_step())
    except RuntimeError as error:
        subject(subject.half_step(), all_inputs=True)  # if this fails too, gradient_inputs are not the reason
        declared = sorted(subject.part.gradient_inputs)
        return f"with gradients for all inputs it works, but with those for {declared} it raises: {message_of(error)}"
    return None


@RULES.rule("not-reduced", "a .mean() or .sum() at the end, which the trainer applies itself")
def _reduction_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step())
    return f"for {BATCH_SIZE} samples it returns a single number" if penalty.ndim == 0 else None


@RULES.rule("shape", "a remaining dimension of the sample, or a batch statistic that is not expanded")
def _shape_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step())
    if penalty.shape != (BATCH_SIZE,):
        return f"for {BATCH_SIZE} samples it returns the shape {shape_text(penalty)}"
    return None


@RULES.rule("frozen-discriminator", "a requires_grad_(True) on D or its parameters")
def _frozen_discriminator_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    if step.half == "discriminator":
        return None
    penalty = subject(step)
    step.discriminator.zero_grad()
    if penalty.requires_grad:
        torch.autograd.backward(penalty.mean())
    for key, parameter in step.discriminator.named_parameters():
        if parameter.grad is not None:
            return f"in the generator's half, the frozen discriminator's parameter {key} receives a gradient"
    return None


@RULES.rule("no-trace", "autograd.backward instead of autograd.grad, requires_grad_() on the given tensors, or eval()")
def _no_trace_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    fake = step.generate(subject.part)
    latent_before = step.latent.requires_grad
    networks = {"D": step.discriminator, "G": step.generator}
    before = {(n, key): p.requires_grad for n, network in networks.items() for key, p in network.named_parameters()}
    subject(step, fake=fake)
    for name, network in networks.items():
        if not all(module.training for module in network.modules()):
            return f"after the call {name} is in eval mode"
        for key, parameter in network.named_parameters():
            if parameter.grad is not None:
                return f"after the call {name}'s parameter {key} has a .grad"
            if parameter.requires_grad != before[name, key]:
                return f"after the call the requires_grad of {name}'s parameter {key} is {parameter.requires_grad}"
    attached = step.half == "generator"
    for name, tensor, wanted in (
        ("real", step.real, False),
        ("fake", fake, attached),
        ("latent", step.latent, latent_before),
    ):
        if tensor.requires_grad != wanted:
            return f"after the call the requires_grad of {name} is {tensor.requires_grad}"
        if tensor.is_leaf and tensor.grad is not None:
            return f"after the call {name} has a .grad"
    return None


@RULES.rule("input-unchanged", "an operation in place on the samples, such as add_() or clamp_()")
def _input_unchanged_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    fake = step.generate(subject.part)
    tensors = {"real": step.real, "fake": fake, "latent": step.latent}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    subject(step, fake=fake)
    for name, tensor in tensors.items():
        if not torch.equal(tensor, before[name]):
            return f"it changes {name} in place"
    return None


@RULES.rule(
    "no-global-random", f"{GLOBAL_RANDOM_CAUSE}; context.uniform_like and normal_like draw from the step's generator"
)
def _global_random_violation(subject: _RegularizerSubject) -> Violation:
    changed = changes_global_random_state(lambda: subject(subject.half_step()))
    return "the call changes the global random state" if changed else None


@RULES.rule("reproducible", "a random generator of its own")
def _reproducible_violation(subject: _RegularizerSubject) -> Violation:
    # the same object twice, so that a hidden state is found; a state that the trainer saves may change
    part = copy.deepcopy(subject.part)
    is_stateful = isinstance(part, Stateful)
    values = [subject(subject.half_step(), part=part, copied=is_stateful) for _ in range(2)]
    return None if _close(*values) else "two calls with the same inputs and equal generators give different values"


@RULES.rule(
    "per-sample",
    "a norm or a mean over the whole batch; for an intended batch statistic, pass batch_statistic=True",
)
def _per_sample_violation(subject: _RegularizerSubject) -> Violation:
    if subject.batch_statistic:
        return None
    return None if _is_per_sample(subject, "samples") else f"the first sample's penalty {_DEPENDS}"


def _is_per_sample(subject: _RegularizerSubject, judged: Judged) -> bool:
    """Return whether what the first sample is given stays the same if the others change."""
    step, others = subject.half_step(judged=judged), subject.half_step(judged=judged)
    others.real[1:] = standard_normal(*others.real[1:].shape, seed=11) * 3
    others.latent[1:] = standard_normal(*others.latent[1:].shape, seed=12) * 3
    before, after = (one.view(BATCH_SIZE, -1)[0] for one in (subject(step), subject(others)))
    return _close(before, after)


@RULES.rule(
    "interpolation",
    "an interpolation weight that is drawn once for all samples, or for each pixel; draw (N, 1, ..., 1)",
)
def _interpolation_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    fake = step.generate(subject.part)
    subject(step, fake=fake)
    real, generated = step.real.flatten(1), fake.detach().flatten(1)
    batches = [batch for x in step.discriminator.seen for batch in torch.split(x, BATCH_SIZE)]
    for x in batches:
        if x.shape != step.real.shape:
            continue
        # how far each number lies between fake and real
        share = (x.flatten(1) - generated) / (real - generated)
        if not ((share > -1e-3) & (share < 1 + 1e-3)).all() or ((share < 1e-3) | (share > 1 - 1e-3)).all():
            continue
        # where real and fake are nearly equal, the quotient is inaccurate
        share = share.masked_fill((real - generated).abs() < 0.1, math.nan)
        center = share.nanmedian(1, keepdim=True).values
        where = f"D is evaluated between {BATCH_SIZE} real and fake samples"
        if ((share - center).abs() > 0.01).any():
            return f"{where} with a separate weight for each number of a sample"
        if (center - center[0]).abs().max() < 1e-4:
            return f"{where} with the weight {center[0].item():.3g} for all samples"
    return None


@RULES.rule("norm", "a norm over the channels of each pixel; take the norm of gradient.flatten(1) over dimension 1")
def _norm_violation(subject: _RegularizerSubject) -> Violation:
    shape = subject.sample_shapes[0]
    spread, single = torch.full(shape, 2 / math.sqrt(math.prod(shape))), torch.zeros(math.prod(shape))
    single[0] = 2
    penalties: list[Tensor] = []
    for slope, seed in ((spread, 1), (spread, 13), (single.view(shape), 1)):
        step = subject.half_step()
        if step.half == "generator":
            return None
        step.discriminator.slope = slope.clone().requires_grad_()
        step.real = standard_normal(*step.real.shape, seed=seed)
        step.latent = standard_normal(*step.latent.shape, seed=seed + 1)
        penalties.append(subject(step).detach())
    even, elsewhere, uneven = penalties
    if _close(even, elsewhere) and not _close(even, uneven):  # it depends on the gradient of a linear D alone
        return (
            f"for gradients of D of the norm 2, the penalty is {even[0].item():.3g} where they are spread over all "
            f"numbers of a sample, and {uneven[0].item():.3g} where they lie in one of them"
        )
    return None


@RULES.rule("detached-fakes", "fakes that the penalty generates without torch.no_grad()")
def _detached_fakes_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    if step.half == "generator":
        return None
    if any(gradient.any() for gradient in _gradients(subject(step), step.generator)):
        return "in the discriminator's half, the generator's parameters receive a gradient"
    return None


@RULES.rule("differentiable", "a missing create_graph=True, a .detach() or a torch.no_grad()")
def _differentiable_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    if not any(gradient.any() for gradient in _gradients(subject(step), step.trained_network)):
        return f"the {step.half}'s parameters receive no gradient"
    return None


@RULES.rule("finite", "a square root at zero, where its derivative is infinite, a division, or half precision")
def _finite_violation(subject: _RegularizerSubject) -> Violation:
    for name in ("flat", "steep"):
        step = subject.half_step()
        for network in (step.discriminator, step.generator):
            if name == "flat":
                with torch.no_grad():
                    for parameter in network.parameters():
                        parameter.zero_()
            elif network is step.discriminator:
                network.gain = 1e3
        penalty = subject(step)
        where = f"with {'flat networks' if name == 'flat' else 'a steep D'}"
        if not penalty.isfinite().all():
            return f"{where}, its value is {penalty[~penalty.isfinite()][0].item()}"
        if not all(gradient.isfinite().all() for gradient in _gradients(penalty, step.trained_network)):
            return f"{where}, its gradient for the {step.half}'s parameters is not finite"
    return None


@RULES.rule(
    "autocast", "a direct call of context.discriminator, whose logits are bfloat16; context.discriminate widens them"
)
def _autocast_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    with torch.autocast("cpu", torch.bfloat16):
        penalty = subject(step)
    if penalty.dtype not in (torch.float32, torch.float64):
        return f"under autocast it returns {penalty.dtype}"
    if not penalty.isfinite().all() or not all(g.isfinite().all() for g in _gradients(penalty, step.trained_network)):
        return "under autocast its value or gradient is not finite"
    return None


@RULES.rule("weight", "a weight that is not applied, applied twice, or squared")
def _weight_violation(subject: _RegularizerSubject) -> Violation:
    if not isinstance(subject.part, _WeightedRegularizer):
        return None
    weight: object = subject.part.weight
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        return None
    weight = weight or 1.0
    once, twice = (_with_weight(subject.part, weight * factor) for factor in (1, 2))
    if once is None or twice is None:
        return None
    if not _close(2 * subject(subject.half_step(), part=once), subject(subject.half_step(), part=twice)):
        return f"with twice the weight, {2 * weight:g}, the penalty is not twice as large"
    return None


def _with_weight(part: _WeightedRegularizer, weight: float) -> Regularizer | None:
    try:
        if dataclasses.is_dataclass(part):
            return dataclasses.replace(part, weight=weight)
        other = copy.deepcopy(part)
        other.weight = weight
    except (AttributeError, TypeError, ValueError):
        return None  # its weight cannot be changed
    return other


@RULES.rule("any-shape", "a view with three channels, or sum(dim=(1, 2, 3)), which fails for flat samples")
def _any_shape_violation(subject: _RegularizerSubject) -> Violation:
    for shape in subject.sample_shapes:
        penalty = subject(subject.half_step(shape))
        if penalty.shape != (BATCH_SIZE,):
            return f"for {BATCH_SIZE} samples of shape {shape} it returns the shape {shape_text(penalty)}"
    return None


@RULES.rule("condition", "a call of context.discriminator without context.condition; context.discriminate adds it")
def _condition_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step(conditional=True)
    subject(step)
    for name, network in (("D", step.discriminator), ("G", step.generator)):
        if network.misuse:
            return f"the conditional {name} is called {network.misuse}"
    return None


@RULES.rule(
    "judgements",
    "a number of samples that is read from logits instead of context.batch_size; context.sample_logits has one number "
    "per sample, context.per_sample averages values of judgements",
)
def _judgements_violation(subject: _RegularizerSubject) -> Violation:
    several: tuple[Judged, ...] = ("positions", "heads")
    for judged in several:
        step = subject.half_step(judged=judged)
        where = f"with a D that judges {judged}, {'x'.join(map(str, step.discriminator.positions))} of each sample,"
        try:
            penalty = subject(step)
        except GankitError:
            if judged == "heads":
                continue  # a penalty may be for discriminators with one head, if it says so
            raise
        shapes = [(BATCH_SIZE,), *((BATCH_SIZE * count,) for count in step.discriminator.positions)]
        if tuple(penalty.shape) not in shapes:
            return f"{where} it returns the shape {shape_text(penalty)}, not {' or '.join(map(str, shapes))}"
        if not any(gradient.any() for gradient in _gradients(penalty, step.trained_network)):
            return f"{where} the {step.half}'s parameters receive no gradient"
        if not subject.batch_statistic and not _is_per_sample(subject, judged):
            return f"{where} the first sample's penalty {_DEPENDS}"
    return None


@RULES.rule("no-host-reads", HOST_READ_CAUSE)
def _host_read_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    fake = step.generate(subject.part)
    count = count_host_reads(lambda: subject(step, fake=fake))
    return f"the call reads {count} values on the host" if count else None


@RULES.rule("device", FIXED_DEVICE_CAUSE)
def _device_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step(device="meta"))
    return None if penalty.device.type == "meta" else f"on the device meta it returns a penalty on {penalty.device}"
