"""The check of an adversarial loss."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from gankit.protocols import AdversarialLoss, Half, has_log_odds
from gankit.testing.host_reads import count_host_reads
from gankit.testing.isolation import changes_global_random_state
from gankit.testing.rules import (
    FIXED_DEVICE_CAUSE,
    GLOBAL_RANDOM_CAUSE,
    HOST_READ_CAUSE,
    Rules,
    Subject,
    Violation,
    snake_case,
    title_of,
)
from gankit.testing.tensors import shape_text, standard_normal

HALVES: tuple[Half, Half] = ("discriminator", "generator")
EXTREMES = (-1e4, -50.0, 0.0, 50.0, 1e4)

# away from 0 and 1, where losses with a margin have no derivative
_REAL = (-1.7, -0.6, 0.45, 1.3)
_FAKE = (0.8, -1.45, 0.3, -0.2)


class _LossSubject(Subject):
    def __init__(self, loss: AdversarialLoss, bounded: bool, saturating: bool | None) -> None:
        super().__init__(title_of(loss))
        self.loss = loss
        self.bounded = bounded
        if saturating is None and "non_saturating" in snake_case(type(loss).__name__):
            saturating = False
        self.saturating = saturating

    def __call__(self, half: Half, real: Tensor, fake: Tensor) -> Tensor:
        loss = copy.deepcopy(self.loss)  # so that a loss with a state always starts from the same one
        if isinstance(loss, nn.Module):
            loss.to(real.device)
        self.current_call = (
            f"{half}_loss of real logits {shape_text(real)} and fake logits {shape_text(fake)}, {real.dtype}, "
            f"device {real.device}"
        )
        if half == "discriminator":
            return self.as_tensor(loss.discriminator_loss(real, fake))
        return self.as_tensor(loss.generator_loss(fake, real) if loss.needs_real_logits else loss.generator_loss(fake))

    def gradients(self, half: Half, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the summed loss with respect to the real and the fake logits, or zeros."""
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        loss = self(half, real, fake)
        if not loss.requires_grad:
            return torch.zeros_like(real), torch.zeros_like(fake)
        of_real, of_fake = torch.autograd.grad(loss.sum(), (real, fake), allow_unused=True, materialize_grads=True)
        return of_real, of_fake


RULES = Rules[_LossSubject]("check_loss")


def check_loss(
    loss: AdversarialLoss,
    *,
    bounded: bool = True,
    saturating: bool | None = None,
    skip: Collection[str] = (),
) -> None:
    """Check that a loss follows the rules of `AdversarialLoss`.

    Args:
        loss: The loss, as an object.
        bounded: Whether values and gradients must be finite for logits of ±50 and ±10,000. Pass False for a loss that
            overflows by design, such as the f-divergence `kl`.
        saturating: False checks that the generator keeps a gradient where D confidently rejects its fakes. None
            checks this for classes whose name says "non-saturating".
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> from gankit.losses import Minimax
        >>> check_loss(Minimax())
        >>> class Swapped(Minimax):
        ...     def discriminator_loss(self, real_logits, fake_logits):
        ...         return super().discriminator_loss(fake_logits, real_logits)
        >>> check_loss(Swapped())
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_loss: Swapped(label_smoothing=0.0) breaks the rule \
'discriminator-direction': at real logits of -0.5, which should rise, and fake logits of 0.5, which should fall, \
discriminator_loss has the gradients 0.378 and -0.378; the usual cause is swapped targets of real and fake samples, \
or a wrong sign
    """
    RULES.check(_LossSubject(loss, bounded, saturating), skip)


def _logits(values: Collection[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(list(values), dtype=dtype)


@RULES.rule("protocol", "a missing member, a needs_real_logits that is not a bool, or a class instead of an object")
def _protocol_violation(subject: _LossSubject) -> Violation:
    loss = subject.loss
    if isinstance(loss, type):
        return "it is a class, not an object"
    if not isinstance(loss, AdversarialLoss):
        members = ("discriminator_loss", "generator_loss", "needs_real_logits")
        return f"it has no {', '.join(m for m in members if not hasattr(loss, m))}"
    flags: dict[str, object] = {"needs_real_logits": loss.needs_real_logits, "log_odds": has_log_odds(loss)}
    for name, value in flags.items():
        if not isinstance(value, bool):
            return f"{name} is {value!r}, not a bool"
    return None


@RULES.rule("real-logits", "a needs_real_logits that contradicts generator_loss")
def _real_logits_violation(subject: _LossSubject) -> Violation:
    expected = subject("generator", standard_normal(4, seed=1), standard_normal(4, seed=2))
    if subject.loss.needs_real_logits:
        if torch.equal(expected, subject("generator", standard_normal(4, seed=3), standard_normal(4, seed=2))):
            return "needs_real_logits is True, but generator_loss does not depend on the real logits"
        try:
            copy.deepcopy(subject.loss).generator_loss(standard_normal(4, seed=2))
        except Exception:  # noqa: BLE001, a loss may refuse the call by any error
            return None
        return "needs_real_logits is True, but generator_loss accepts a call without real_logits"
    subject.current_call = "generator_loss with real_logits, although needs_real_logits is False,"
    with_real = copy.deepcopy(subject.loss).generator_loss(standard_normal(4, seed=2), standard_normal(4, seed=1))
    if not torch.equal(expected, with_real):
        return "needs_real_logits is False, but generator_loss depends on the real logits"
    return None


@RULES.rule("not-reduced", "a .mean() or .sum() at the end, which the trainer applies itself")
def _reduction_violation(subject: _LossSubject) -> Violation:
    for half in HALVES:
        loss = subject(half, standard_normal(5, seed=1), standard_normal(5, seed=2))
        if loss.ndim == 0:
            return f"{half}_loss of logits (5,) is a single number"
    return None


@RULES.rule("shape", "a dimension that is added, flattened or reduced")
def _shape_violation(subject: _LossSubject) -> Violation:
    for half, shape in itertools.product(HALVES, ((5,), (1,), (3, 5))):
        loss = subject(half, standard_normal(*shape, seed=1), standard_normal(*shape, seed=2))
        if loss.shape != shape:
            return f"{half}_loss of logits {shape} has the shape {shape_text(loss)}"
    return None


@RULES.rule("dtype", "a .float(), .half() or torch.tensor(...) with a fixed dtype")
def _dtype_violation(subject: _LossSubject) -> Violation:
    for half, dtype in itertools.product(HALVES, (torch.float32, torch.float64, torch.bfloat16)):
        loss = subject(half, standard_normal(5, seed=1, dtype=dtype), standard_normal(5, seed=2, dtype=dtype))
        if loss.dtype != dtype:
            return f"{half}_loss of {dtype} logits is {loss.dtype}"
    return None


@RULES.rule("input-unchanged", "an operation in place on the logits, such as neg_() or relu_()")
def _input_unchanged_violation(subject: _LossSubject) -> Violation:
    for half in HALVES:
        real, fake = standard_normal(5, seed=1), standard_normal(5, seed=2)
        subject(half, real, fake)
        for name, logits, seed in (("real", real, 1), ("fake", fake, 2)):
            if not torch.equal(logits, standard_normal(5, seed=seed)):
                return f"{half}_loss changes the {name} logits"
    return None


@RULES.rule("no-broadcast", "a missing check_same_batch(real_logits, fake_logits), or a D that returns (N, 1)")
def _broadcast_violation(subject: _LossSubject) -> Violation:
    halves = HALVES if subject.loss.needs_real_logits else HALVES[:1]
    for half, (a, b) in itertools.product(halves, (((4,), (1,)), ((1,), (4,)), ((4, 1), (4,)), ((2, 4), (4,)))):
        real, fake = standard_normal(*a, seed=1), standard_normal(*b, seed=2)
        try:
            loss = subject(half, real, fake)
        except Exception:  # noqa: BLE001, a loss may refuse the call by any error
            continue
        return f"{half}_loss of real logits {a} and fake logits {b} has the shape {shape_text(loss)}"
    return None


@RULES.rule("no-host-reads", HOST_READ_CAUSE)
def _host_read_violation(subject: _LossSubject) -> Violation:
    real, fake = standard_normal(5, seed=1).requires_grad_(), standard_normal(5, seed=2).requires_grad_()
    for half in HALVES:
        count = count_host_reads(lambda half=half: subject(half, real, fake))
        if count:
            return f"{half}_loss of logits (5,) reads {count} values on the host"
    return None


@RULES.rule("device", FIXED_DEVICE_CAUSE)
def _device_violation(subject: _LossSubject) -> Violation:
    for half in HALVES:
        loss = subject(half, torch.empty(5, device="meta"), torch.empty(5, device="meta"))
        if loss.device.type != "meta":
            return f"{half}_loss of logits on the device meta is on {loss.device}"
    return None


@RULES.rule("no-global-random", GLOBAL_RANDOM_CAUSE)
def _global_random_violation(subject: _LossSubject) -> Violation:
    real, fake = standard_normal(5, seed=1), standard_normal(5, seed=2)
    for half in HALVES:
        if changes_global_random_state(lambda half=half: subject(half, real, fake)):
            return f"{half}_loss changes the global random state"
    return None


@RULES.rule("batch-order", "a value that depends on the position in the batch")
def _batch_order_violation(subject: _LossSubject) -> Violation:
    real, fake = (standard_normal(6, seed=seed, dtype=torch.float64) for seed in (1, 2))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for half in HALVES:
        if not torch.allclose(subject(half, real[order], fake[order]), subject(half, real, fake)[order]):
            return f"{half}_loss of a permuted batch of 6 is not the permuted loss"
    return None


@RULES.rule("replicas", "a mean over all dimensions or over dimension 0; the batch is the last dimension, dim=-1")
def _replicas_violation(subject: _LossSubject) -> Violation:
    real, fake = (standard_normal(3, 5, seed=seed, dtype=torch.float64) for seed in (1, 2))
    for half in HALVES:
        together = subject(half, real, fake)
        alone = torch.stack([subject(half, r, f) for r, f in zip(real, fake, strict=True)])
        if not torch.allclose(together, alone):
            return f"{half}_loss of logits (3, 5) differs from the losses of its 3 rows"
    return None


@RULES.rule("finite", "exp, log(sigmoid) or a square in half precision; F.softplus and F.logsigmoid stay finite")
def _finite_violation(subject: _LossSubject) -> Violation:
    if not subject.bounded:
        return None
    reals, fakes = zip(*itertools.product(EXTREMES, EXTREMES), strict=True)
    for half, dtype in itertools.product(HALVES, (torch.float32, torch.bfloat16)):
        together = _logits(reals, dtype), _logits(fakes, dtype)
        # also each pair in a batch of its own, for losses that contain a mean over the batch
        apart = together[0][:, None].repeat(1, 3), together[1][:, None].repeat(1, 3)
        for real, fake in (apart, together):
            values = {"value": subject(half, real, fake).detach()}
            values["gradient for real"], values["gradient for fake"] = subject.gradients(half, real, fake)
            for name, value in values.items():
                bad = ~value.isfinite()
                if bad.any():
                    r, f = real[bad][0].item(), fake[bad][0].item()
                    got = value[bad][0].item()
                    return f"{half}_loss has the {name} {got} at real logit {r:g} and fake logit {f:g}, {dtype}"
    return None


@RULES.rule("differentiable", "a .detach(), .data or torch.no_grad(), or an autograd.Function with a wrong backward")
def _differentiable_violation(subject: _LossSubject) -> Violation:
    real, fake = _logits(_REAL, torch.float64).requires_grad_(), _logits(_FAKE, torch.float64).requires_grad_()
    for half in HALVES:

        def both(real: Tensor, fake: Tensor, half: Half = half) -> Tensor:
            return subject(half, real, fake)

        if not both(real, fake).requires_grad:
            return f"{half}_loss of logits that require a gradient does not require one"
        if not torch.autograd.gradcheck(both, (real, fake), raise_exception=False):
            at = f"real logits {_REAL} and fake logits {_FAKE}"
            return f"the gradient of {half}_loss at {at} differs from finite differences"
    return None


@RULES.rule("discriminator-direction", "swapped targets of real and fake samples, or a wrong sign")
def _discriminator_direction_violation(subject: _LossSubject) -> Violation:
    minus, plus = _logits([-0.5] * 4, torch.float64), _logits([0.5] * 4, torch.float64)
    real, fake = subject.gradients("discriminator", minus, plus)
    if not real.sum() < 0 or not fake.sum() > 0:
        return (
            "at real logits of -0.5, which should rise, and fake logits of 0.5, which should fall, "
            f"discriminator_loss has the gradients {real[0].item():.3g} and {fake[0].item():.3g}"
        )
    return None


@RULES.rule("generator-direction", "the discriminator's target for fakes in the generator's half, or a wrong sign")
def _generator_direction_violation(subject: _LossSubject) -> Violation:
    minus, plus = _logits([-0.5] * 4, torch.float64), _logits([0.5] * 4, torch.float64)
    _, fake = subject.gradients("generator", plus, minus)
    if not fake.sum() < 0:
        return f"at fake logits of -0.5, which should rise, generator_loss has the gradient {fake[0].item():.3g}"
    return None


@RULES.rule("logits", "a sigmoid before a loss of logits")
def _logits_violation(subject: _LossSubject) -> Violation:
    # where D is confidently wrong and has most to learn, a sigmoid of the logits removes the gradient
    real, fake = subject.gradients("discriminator", torch.full((4,), -50.0), torch.full((4,), 50.0))
    if (real.abs() < 1e-2).any() or (fake.abs() < 1e-2).any():
        return (
            "at real logits of -50 and fake logits of 50, discriminator_loss has the gradients "
            f"{real[0].item():.3g} and {fake[0].item():.3g}"
        )
    return None


@RULES.rule("non-saturating", "log(1 - D(G(z))) instead of -log D(G(z)), or a small number added inside the log")
def _non_saturating_violation(subject: _LossSubject) -> Violation:
    if subject.saturating is not False:
        return None
    _, fake = subject.gradients("generator", torch.full((4,), 50.0), torch.full((4,), -50.0))
    if not (fake < -1e-2).all():
        return f"at fake logits of -50, generator_loss has the gradient {fake[0].item():.3g}"
    return None


@RULES.rule("log-odds", "a log_odds = True that was copied from another loss")
def _log_odds_violation(subject: _LossSubject) -> Violation:
    if not has_log_odds(subject.loss):
        return None
    # a logit l minimizes the expected loss where real is e^l times as probable as fake (Reid & Williamson 2010); for
    # negative logits, smoothed labels change this only a little, for which a factor of 2 leaves room
    at = _logits([-1.0] * 4, torch.float64)
    real, fake = subject.gradients("discriminator", at, at)
    odds = (-fake / real)[0].item()
    if not 0.5 < odds / math.exp(-1) < 2:
        return f"a logit of -1 is optimal for odds of {odds:.3g}; as log-odds it would be for {math.exp(-1):.3g}"
    return None
