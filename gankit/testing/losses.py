"""The check of an adversarial loss."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from gankit.protocols import AdversarialLoss, Half, has_log_odds
from gankit.testing.host_reads import HostReads
from gankit.testing.isolation import global_random_state, same_random_state
from gankit.testing.rules import Rules, Subject, Violation, snake_case, title_of
from gankit.testing.tensors import shape_text, standard_normal

HALVES: tuple[Half, Half] = ("discriminator", "generator")
EXTREMES = (-1e4, -50.0, 0.0, 50.0, 1e4)

# away from the kinks at 0 and 1 of losses with a margin
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
        loss = copy.deepcopy(self.loss)  # one that keeps a state starts afresh
        if isinstance(loss, nn.Module):
            loss.to(real.device)
        self.doing = (
            f"{half}_loss of real logits {shape_text(real)} and fake logits {shape_text(fake)}, {real.dtype}, "
            f"device {real.device}"
        )
        if half == "discriminator":
            return self.tensor(loss.discriminator_loss(real, fake))
        return self.tensor(loss.generator_loss(fake, real) if loss.needs_real_logits else loss.generator_loss(fake))

    def slopes(self, half: Half, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the summed loss with respect to the real and fake logits; zeros if there is none."""
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
    """Check that a loss keeps the rules of `AdversarialLoss`.

    Args:
        loss: The loss, an object and not its class.
        bounded: Whether values and gradients must be finite for logits of ±50 and ±10,000. Pass False for a loss
            that overflows by definition, such as the f-divergence `kl`.
        saturating: False to check that the generator keeps a gradient if D confidently rejects its fakes. None checks
            this only if the name of the loss's class says "non-saturating".
        skip: The names of rules not to check.

    Raises:
        ConformanceError: The part breaks a rule. The name of the first is in `rule`.
        BadValueError: A name in `skip` is not the name of a rule.

    Example:
        >>> from gankit.losses import Minimax
        >>> check_loss(Minimax())
        >>> class Swapped(Minimax):
        ...     def discriminator_loss(self, real_logits, fake_logits):
        ...         return super().discriminator_loss(fake_logits, real_logits)
        >>> check_loss(Swapped())
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_loss: Swapped(label_smoothing=0.0) breaks the rule \
'discriminator-direction': at real logits of -0.5 and fake logits of 0.5, where real should rise and fake fall, \
discriminator_loss has the slopes 0.378 and -0.378; the usual cause is targets of real and fake that are swapped, or \
a sign
    """
    RULES.check(_LossSubject(loss, bounded, saturating), skip)


def _logits(values: Collection[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(list(values), dtype=dtype)


@RULES.rule("protocol", "a missing member, a needs_real_logits that is no bool, or a class instead of an object")
def _protocol_violation(part: _LossSubject) -> Violation:
    loss = part.loss
    if isinstance(loss, type):
        return "it is a class, not an object"
    if not isinstance(loss, AdversarialLoss):
        members = ("discriminator_loss", "generator_loss", "needs_real_logits")
        return f"it has no {', '.join(m for m in members if not hasattr(loss, m))}"
    flags: dict[str, object] = {"needs_real_logits": loss.needs_real_logits, "log_odds": has_log_odds(loss)}
    for name, value in flags.items():
        if not isinstance(value, bool):
            return f"{name} is {value!r}"
    return None


@RULES.rule("real-logits", "a needs_real_logits that says otherwise than generator_loss does")
def _real_logits_violation(part: _LossSubject) -> Violation:
    alone = part("generator", standard_normal(4, seed=1), standard_normal(4, seed=2))
    if part.loss.needs_real_logits:
        if torch.equal(alone, part("generator", standard_normal(4, seed=3), standard_normal(4, seed=2))):
            return "needs_real_logits is True and other real logits make no difference to generator_loss"
        try:
            copy.deepcopy(part.loss).generator_loss(standard_normal(4, seed=2))
        except Exception:  # noqa: BLE001, any refusal will do
            return None
        return "needs_real_logits is True and generator_loss(fake_logits) without real_logits is not refused"
    part.doing = "generator_loss with real_logits, which needs_real_logits = False says it does not read,"
    beside = copy.deepcopy(part.loss).generator_loss(standard_normal(4, seed=2), standard_normal(4, seed=1))
    if not torch.equal(alone, beside):
        return "needs_real_logits is False and real logits make a difference to generator_loss"
    return None


@RULES.rule("not-reduced", "a .mean() or .sum() at the end; the trainer reduces")
def _reduction_violation(part: _LossSubject) -> Violation:
    for half in HALVES:
        loss = part(half, standard_normal(5, seed=1), standard_normal(5, seed=2))
        if loss.ndim == 0:
            return f"{half}_loss of logits (5,) is one number"
    return None


@RULES.rule("shape", "a dimension that is added, flattened or reduced on the way")
def _shape_violation(part: _LossSubject) -> Violation:
    for half, shape in itertools.product(HALVES, ((5,), (1,), (3, 5))):
        loss = part(half, standard_normal(*shape, seed=1), standard_normal(*shape, seed=2))
        if loss.shape != shape:
            return f"{half}_loss of logits {shape} has the shape {shape_text(loss)}"
    return None


@RULES.rule("dtype", "a .float(), .half() or torch.tensor(...) of a fixed type inside")
def _dtype_violation(part: _LossSubject) -> Violation:
    for half, dtype in itertools.product(HALVES, (torch.float32, torch.float64, torch.bfloat16)):
        loss = part(half, standard_normal(5, seed=1, dtype=dtype), standard_normal(5, seed=2, dtype=dtype))
        if loss.dtype != dtype:
            return f"{half}_loss of {dtype} logits is {loss.dtype}"
    return None


@RULES.rule("input-unchanged", "an operation in place, such as neg_() or relu_(), on the logits")
def _input_unchanged_violation(part: _LossSubject) -> Violation:
    for half in HALVES:
        real, fake = standard_normal(5, seed=1), standard_normal(5, seed=2)
        part(half, real, fake)
        for name, logits, seed in (("real", real, 1), ("fake", fake, 2)):
            if not torch.equal(logits, standard_normal(5, seed=seed)):
                return f"{half}_loss changes the {name} logits in place"
    return None


@RULES.rule("no-broadcast", "a missing check_same_batch(real_logits, fake_logits), or a D that answers (N, 1)")
def _broadcast_violation(part: _LossSubject) -> Violation:
    halves = HALVES if part.loss.needs_real_logits else HALVES[:1]
    for half, (a, b) in itertools.product(halves, (((4,), (1,)), ((1,), (4,)), ((4, 1), (4,)), ((2, 4), (4,)))):
        real, fake = standard_normal(*a, seed=1), standard_normal(*b, seed=2)
        try:
            loss = part(half, real, fake)
        except Exception:  # noqa: BLE001, any refusal will do
            continue
        return f"{half}_loss of real logits {a} and fake logits {b} has the shape {shape_text(loss)}"
    return None


@RULES.rule("no-host-reads", "an .item(), float(), bool() or an `if` on a tensor, for which a GPU has to wait")
def _host_read_violation(part: _LossSubject) -> Violation:
    for half in HALVES:
        real, fake = standard_normal(5, seed=1).requires_grad_(), standard_normal(5, seed=2).requires_grad_()
        with HostReads() as reads:
            part(half, real, fake)
        if reads.count:
            return f"{half}_loss of logits (5,) reads {reads.count} values on the host"
    return None


@RULES.rule("device", "a tensor made on a fixed device inside, or data brought to the host by .cpu() or .tolist()")
def _device_violation(part: _LossSubject) -> Violation:
    for half in HALVES:
        loss = part(half, torch.empty(5, device="meta"), torch.empty(5, device="meta"))
        if loss.device.type != "meta":
            return f"{half}_loss of logits on the device meta is on {loss.device}"
    return None


@RULES.rule("no-global-random", "torch.rand and the like, which draw from the caller's global generator")
def _global_random_violation(part: _LossSubject) -> Violation:
    for half in HALVES:
        before = global_random_state()
        part(half, standard_normal(5, seed=1), standard_normal(5, seed=2))
        if not same_random_state(before, global_random_state()):
            return f"{half}_loss changes the global random state"
    return None


@RULES.rule("batch-order", "something that depends on a sample's place in the batch")
def _batch_order_violation(part: _LossSubject) -> Violation:
    real, fake = (standard_normal(6, seed=seed, dtype=torch.float64) for seed in (1, 2))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for half in HALVES:
        if not torch.allclose(part(half, real[order], fake[order]), part(half, real, fake)[order]):
            return f"{half}_loss of a permuted batch of 6 is not the permuted loss"
    return None


@RULES.rule("replicas", "a mean over every dimension or dimension 0; the batch is the last, dim=-1")
def _replicas_violation(part: _LossSubject) -> Violation:
    real, fake = (standard_normal(3, 5, seed=seed, dtype=torch.float64) for seed in (1, 2))
    for half in HALVES:
        together = part(half, real, fake)
        alone = torch.stack([part(half, r, f) for r, f in zip(real, fake, strict=True)])
        if not torch.allclose(together, alone):
            return f"{half}_loss of logits (3, 5) is not that of each of the 3 rows"
    return None


@RULES.rule("finite", "exp, log(sigmoid) or a square in half precision; F.softplus and F.logsigmoid stay finite")
def _finite_violation(part: _LossSubject) -> Violation:
    if not part.bounded:
        return None
    reals, fakes = zip(*itertools.product(EXTREMES, EXTREMES), strict=True)
    for half, dtype in itertools.product(HALVES, (torch.float32, torch.bfloat16)):
        together = _logits(reals, dtype), _logits(fakes, dtype)
        # also a batch of its own for each pair, for losses with a mean over the batch
        apart = together[0][:, None].repeat(1, 3), together[1][:, None].repeat(1, 3)
        for real, fake in (apart, together):
            values = {"value": part(half, real, fake).detach()}
            values["slope to real"], values["slope to fake"] = part.slopes(half, real, fake)
            for name, value in values.items():
                bad = ~value.isfinite()
                if bad.any():
                    r, f = real[bad][0].item(), fake[bad][0].item()
                    got = value[bad][0].item()
                    return f"{half}_loss has the {name} {got} at real logit {r:g} and fake logit {f:g}, {dtype}"
    return None


@RULES.rule("differentiable", "a .detach(), .data or torch.no_grad() inside, or a backward of one's own that is wrong")
def _differentiable_violation(part: _LossSubject) -> Violation:
    real, fake = _logits(_REAL, torch.float64).requires_grad_(), _logits(_FAKE, torch.float64).requires_grad_()
    for half in HALVES:

        def both(real: Tensor, fake: Tensor, half: Half = half) -> Tensor:
            return part(half, real, fake)

        if not both(real, fake).requires_grad:
            return f"{half}_loss of logits that require a gradient does not require one"
        if not torch.autograd.gradcheck(both, (real, fake), raise_exception=False):
            return (
                f"{half}_loss at real logits {_REAL} and fake logits {_FAKE} has another gradient than its finite "
                "differences"
            )
    return None


@RULES.rule("discriminator-direction", "targets of real and fake that are swapped, or a sign")
def _discriminator_direction_violation(part: _LossSubject) -> Violation:
    real, fake = part.slopes("discriminator", _logits([-0.5] * 4, torch.float64), _logits([0.5] * 4, torch.float64))
    if not real.sum() < 0 or not fake.sum() > 0:
        return (
            "at real logits of -0.5 and fake logits of 0.5, where real should rise and fake fall, "
            f"discriminator_loss has the slopes {real[0].item():.3g} and {fake[0].item():.3g}"
        )
    return None


@RULES.rule("generator-direction", "the discriminator's target for fakes in the generator's half, or a sign")
def _generator_direction_violation(part: _LossSubject) -> Violation:
    _, fake = part.slopes("generator", _logits([0.5] * 4, torch.float64), _logits([-0.5] * 4, torch.float64))
    if not fake.sum() < 0:
        return (
            "at fake logits of -0.5, which the generator should raise, generator_loss has the slope "
            f"{fake[0].item():.3g}"
        )
    return None


@RULES.rule("logits", "a sigmoid before a loss of logits")
def _logits_violation(part: _LossSubject) -> Violation:
    # a loss that first applies a sigmoid has no slope here, where D is confidently wrong and has most to learn
    real, fake = part.slopes("discriminator", torch.full((4,), -50.0), torch.full((4,), 50.0))
    if (real.abs() < 1e-2).any() or (fake.abs() < 1e-2).any():
        return (
            "with real logits of -50 and fake logits of 50 the discriminator's loss has the slopes "
            f"{real[0].item():.3g} and {fake[0].item():.3g}"
        )
    return None


@RULES.rule("non-saturating", "log(1 - D(G(z))) under the name of -log D(G(z)), or a small number inside the log")
def _non_saturating_violation(part: _LossSubject) -> Violation:
    if part.saturating is not False:
        return None
    _, fake = part.slopes("generator", torch.full((4,), 50.0), torch.full((4,), -50.0))
    if not (fake < -1e-2).all():
        return f"at fake logits of -50 generator_loss has the slope {fake[0].item():.3g}"
    return None


@RULES.rule("log-odds", "a log_odds = True that was copied from another loss")
def _log_odds_violation(part: _LossSubject) -> Violation:
    if not has_log_odds(part.loss):
        return None
    # the expected loss is least at logit l where real is e^l times as probable as fake (Reid & Williamson 2010);
    # below zero smoothed labels change that little, and a factor of 2 leaves room for them
    at = _logits([-1.0] * 4, torch.float64)
    real, fake = part.slopes("discriminator", at, at)
    odds = (-fake / real)[0].item()
    if not 0.5 < odds / math.exp(-1) < 2:
        return f"a logit of -1 is optimal for odds of {odds:.3g}, and log-odds would be for {math.exp(-1):.3g}"
    return None
