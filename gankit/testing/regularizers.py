"""The check of a regularizer or a constraint."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gankit.context import StepContext
from gankit.protocols import Constraint, GradientInput, Regularizer, Stateful
from gankit.testing.constraints import RULES as CONSTRAINT_RULES
from gankit.testing.constraints import ConstraintSubject, every_violation
from gankit.testing.half_step import BATCH_SIZE, HalfStep
from gankit.testing.host_reads import HostReads
from gankit.testing.isolation import global_random_state, same_random_state
from gankit.testing.rules import Rules, Subject, Violation, reason, title_of
from gankit.testing.tensors import shape_text, standard_normal

_GRADIENT_INPUTS: frozenset[GradientInput] = frozenset({"real", "fake", "latent"})


class _RegularizerSubject(Subject):
    def __init__(self, part: Regularizer, sample_shapes: Sequence[Sequence[int]], batch_statistic: bool) -> None:
        super().__init__(title_of(part))
        self.part = part
        self.sample_shapes = [tuple(shape) for shape in sample_shapes]
        self.batch_statistic = batch_statistic

    def half_step(
        self, shape: Sequence[int] | None = None, *, conditional: bool = False, device: str = "cpu"
    ) -> HalfStep:
        return HalfStep(self.part, shape or self.sample_shapes[0], conditional, device)

    def __call__(
        self,
        step: HalfStep,
        *,
        fake: Tensor | None = None,
        all_inputs: bool = False,
        part: Regularizer | None = None,
        afresh: bool = True,
    ) -> Tensor:
        part = self.part if part is None else part
        part = copy.deepcopy(part) if afresh else part  # a copy, so that one with a state begins with it
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
        self.doing = (
            f"the call on {BATCH_SIZE} samples of shape {shape_text(step.real[0])}, device {step.device}"
            f"{', with labels' if step.condition is not None else ''},"
        )
        return self.tensor(part(context))


RULES = Rules[_RegularizerSubject]("check_regularizer")


def check_regularizer(
    regularizer: Regularizer | Constraint,
    *,
    batch_statistic: bool = False,
    sample_shapes: Sequence[Sequence[int]] = ((3, 8, 8), (1, 8, 8), (2,)),
    skip: Collection[str] = (),
) -> None:
    """Check that a regularizer keeps the rules of `Regularizer`, or a constraint those of `Constraint`.

    It is called in its own half of a step, with small networks, fakes and a generator of random numbers as the
    trainer would give them.

    Args:
        regularizer: The regularizer or constraint, an object and not its class.
        batch_statistic: Whether a sample's penalty may depend on the rest of the batch.
        sample_shapes: The shapes of samples that it must work with; by default pictures with three channels and with
            one, and points in the plane. Most rules use only the first.
        skip: The names of rules not to check.

    Raises:
        ConformanceError: The part breaks a rule. The name of the first is in `rule`.
        BadValueError: A name in `skip` is not the name of a rule.

    Example:
        >>> from gankit.regularizers import R1
        >>> check_regularizer(R1())
        >>> class OfTheBatch(R1):
        ...     def __call__(self, context):
        ...         (g,) = torch.autograd.grad(context.logits("real").sum(), context.real, create_graph=True)
        ...         return self.weight / 2 * g.square().sum().expand(len(g))
        >>> check_regularizer(OfTheBatch())
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_regularizer: OfTheBatch(weight=10.0, every=1) breaks the rule \
'per-sample': the first sample's penalty changes with the other samples of a batch of 5; the usual cause is a norm \
or a mean over the whole batch; a batch statistic that is meant is checked with batch_statistic=True
    """
    if isinstance(regularizer, Constraint) and not isinstance(regularizer, Regularizer):
        CONSTRAINT_RULES.check(ConstraintSubject(regularizer), skip)
    else:
        RULES.check(_RegularizerSubject(regularizer, sample_shapes, batch_statistic), skip)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def _gradients(penalty: Tensor, network: nn.Module) -> list[Tensor]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not penalty.requires_grad:
        return []
    found = torch.autograd.grad(penalty.mean(), parameters, allow_unused=True)
    return [gradient for gradient in cast("tuple[Tensor | None, ...]", found) if gradient is not None]


@RULES.rule("protocol", "a missing member, a misspelt half, or a class instead of an object")
def _protocol_violation(subject: _RegularizerSubject) -> Violation:
    if isinstance(subject.part, type):
        return "it is a class, not an object"
    missing = [name for name in ("half", "every", "gradient_inputs") if not hasattr(subject.part, name)]
    if missing:
        return f"it has no {', '.join(missing)}"
    if not isinstance(subject.part, Regularizer):
        return "it cannot be called, and has no apply either"
    if subject.part.half not in ("discriminator", "generator"):
        return f"half is {subject.part.half!r}, neither 'discriminator' nor 'generator'"
    inputs: Any = subject.part.gradient_inputs
    if not isinstance(inputs, frozenset) or not inputs <= _GRADIENT_INPUTS:
        return f"gradient_inputs is {inputs!r}, not a frozenset of 'real', 'fake' and 'latent'"
    return every_violation(subject.part)


@RULES.rule("gradient-inputs", "gradient_inputs that do not name a tensor the penalty differentiates with respect to")
def _gradient_inputs_violation(subject: _RegularizerSubject) -> Violation:
    if subject.part.half == "generator":
        return None
    try:
        subject(subject.half_step())
    except RuntimeError as error:
        subject(subject.half_step(), all_inputs=True)  # where this fails too, the reason is another
        declared = sorted(subject.part.gradient_inputs)
        return f"it works with gradients for every input, and with those for {declared} it raises: {reason(error)}"
    return None


@RULES.rule("not-reduced", "a .mean() or .sum() at the end; the trainer reduces")
def _reduction_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step())
    return f"for {BATCH_SIZE} samples it returns one number" if penalty.ndim == 0 else None


@RULES.rule("shape", "a dimension left from the sample's shape, or a batch statistic that is not expanded")
def _shape_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step())
    if penalty.shape != (BATCH_SIZE,):
        return f"for {BATCH_SIZE} samples its result has the shape {shape_text(penalty)}"
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
            return f"a term of the generator's half gives the frozen discriminator's parameter {key} a gradient"
    return None


@RULES.rule("no-trace", "torch.autograd.backward instead of grad, requires_grad_() on the caller's tensor, or eval()")
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
            return f"after the call the requires_grad of the caller's {name} is {tensor.requires_grad}"
        if tensor.is_leaf and tensor.grad is not None:
            return f"after the call the caller's {name} has a .grad"
    return None


@RULES.rule("input-unchanged", "an operation in place, such as add_() or clamp_(), on the samples")
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
    "no-global-random", "torch.rand and the like; context.uniform_like and normal_like draw from the step's generator"
)
def _global_random_violation(subject: _RegularizerSubject) -> Violation:
    before = global_random_state()
    subject(subject.half_step())
    return None if same_random_state(before, global_random_state()) else "the call changes the global random state"


@RULES.rule("reproducible", "a generator of random numbers of the part's own")
def _reproducible_violation(subject: _RegularizerSubject) -> Violation:
    # one object twice, so that what it keeps for itself shows; a declared state may go on
    part = copy.deepcopy(subject.part)
    keeps = not isinstance(part, Stateful)
    values = [subject(subject.half_step(), part=part, afresh=not keeps) for _ in range(2)]
    return None if _close(*values) else "two calls with the same inputs and equal generators give other values"


@RULES.rule(
    "per-sample",
    "a norm or a mean over the whole batch; a batch statistic that is meant is checked with batch_statistic=True",
)
def _per_sample_violation(subject: _RegularizerSubject) -> Violation:
    if subject.batch_statistic:
        return None
    step = subject.half_step()
    alone = subject(step)
    others = subject.half_step()
    others.real[1:] = standard_normal(*others.real[1:].shape, seed=11) * 3
    others.latent[1:] = standard_normal(*others.latent[1:].shape, seed=12) * 3
    if not _close(alone[:1], subject(others)[:1]):
        return f"the first sample's penalty changes with the other samples of a batch of {BATCH_SIZE}"
    return None


@RULES.rule(
    "interpolation",
    "a weight between real and fake drawn once for all samples, or for every pixel; draw (N, 1, ..., 1)",
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
        # how far each number has gone from fake to real
        way = (x.flatten(1) - generated) / (real - generated)
        if not ((way > -1e-3) & (way < 1 + 1e-3)).all() or ((way < 1e-3) | (way > 1 - 1e-3)).all():
            continue
        # the quotient is unreliable where real and fake are almost equal
        way = way.masked_fill((real - generated).abs() < 0.1, math.nan)
        center = way.nanmedian(1, keepdim=True).values
        where = f"D is asked at points between {BATCH_SIZE} real and fake samples"
        if ((way - center).abs() > 0.01).any():
            return f"{where}, with a weight for each number of a sample"
        if (center - center[0]).abs().max() < 1e-4:
            return f"{where}, with the weight {center[0].item():.3g} for all"
    return None


@RULES.rule("detached-fakes", "fakes that the penalty generates itself without torch.no_grad()")
def _detached_fakes_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    if step.half == "generator":
        return None
    if any(gradient.any() for gradient in _gradients(subject(step), step.generator)):
        return "a term of the discriminator's half has a gradient for the generator's parameters"
    return None


@RULES.rule("differentiable", "a forgotten create_graph=True, a .detach() or a torch.no_grad()")
def _differentiable_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    if not any(gradient.any() for gradient in _gradients(subject(step), step.trained_network)):
        return f"it gives the {step.half}'s parameters no gradient"
    return None


@RULES.rule("finite", "a square root at zero, whose slope is infinite, a division, or half precision")
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
        where = f"{'both networks are' if name == 'flat' else 'D is'} {name}"
        if not penalty.isfinite().all():
            return f"where {where} its value is {penalty[~penalty.isfinite()][0].item()}"
        if not all(gradient.isfinite().all() for gradient in _gradients(penalty, step.trained_network)):
            return f"where {where} its gradient for the {step.half}'s parameters is not finite"
    return None


@RULES.rule(
    "autocast", "context.discriminator called directly, whose logits are bfloat16; context.discriminate widens them"
)
def _autocast_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    with torch.autocast("cpu", torch.bfloat16):
        penalty = subject(step)
    if penalty.dtype not in (torch.float32, torch.float64):
        return f"under autocast it gives {penalty.dtype}"
    if not penalty.isfinite().all() or not all(g.isfinite().all() for g in _gradients(penalty, step.trained_network)):
        return "under autocast its value or gradient is not finite"
    return None


@RULES.rule("weight", "a weight that is left out, applied twice, or squared")
def _weight_violation(subject: _RegularizerSubject) -> Violation:
    weight: object = getattr(subject.part, "weight", None)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        return None
    one, two = (_with_weight(subject.part, (weight or 1.0) * factor) for factor in (1, 2))
    if one is None or two is None:
        return None
    if not _close(2 * subject(subject.half_step(), part=one), subject(subject.half_step(), part=two)):
        return f"with twice the weight, {2 * (weight or 1.0):g}, the penalty is not twice as large"
    return None


def _with_weight(part: Regularizer, weight: float) -> Any:
    try:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return dataclasses.replace(cast(Any, part), weight=weight)
        other = copy.deepcopy(part)
        setattr(other, "weight", weight)  # noqa: B010
    except (AttributeError, TypeError, ValueError):
        return None  # it does not let its weight be changed
    return other


@RULES.rule("any-shape", "a view with three channels, or sum(dim=(1, 2, 3)) where samples may be flat")
def _any_shape_violation(subject: _RegularizerSubject) -> Violation:
    for shape in subject.sample_shapes:
        penalty = subject(subject.half_step(shape))
        if penalty.shape != (BATCH_SIZE,):
            return f"for {BATCH_SIZE} samples of shape {shape} its result has the shape {shape_text(penalty)}"
    return None


@RULES.rule("condition", "context.discriminator called without context.condition; context.discriminate adds it")
def _condition_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step(conditional=True)
    subject(step)
    for name, network in (("D", step.discriminator), ("G", step.generator)):
        if network.misuse:
            return f"a conditional {name} is called {network.misuse}"
    return None


@RULES.rule("no-host-reads", "an .item(), float(), bool() or an `if` on a tensor, for which a GPU has to wait")
def _host_read_violation(subject: _RegularizerSubject) -> Violation:
    step = subject.half_step()
    fake = step.generate(subject.part)
    with HostReads() as reads:
        subject(step, fake=fake)
    return f"the call reads {reads.count} values on the host" if reads.count else None


@RULES.rule("device", "a tensor made on a fixed device inside, or data brought to the host by .cpu() or .tolist()")
def _device_violation(subject: _RegularizerSubject) -> Violation:
    penalty = subject(subject.half_step(device="meta"))
    return None if penalty.device.type == "meta" else f"on the device meta it gives a penalty on {penalty.device}"
