"""Trainers with a loss, a penalty or a batch that is not finite in chosen steps."""

from __future__ import annotations

import math

import pytest

from gankit.losses import NonSaturating
from gankit.presets import ring
from gankit.spec import Spec

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8]),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    learning_rate_decay=False,
    averaging_decay=None,
    regularizers=(),
)


class Poisoned(NonSaturating):
    """A loss with a value or a gradient that is not finite in chosen steps of one half."""

    def __init__(self, trainer, half, steps, value=math.nan, *, gradient=True):
        self._trainer, self._half, self._steps, self._value, self._gradient = trainer, half, steps, value, gradient

    def _poisoned(self, half, loss):
        if half == self._half and self._trainer[0].steps_done in self._steps:
            # an added infinity does not reach the gradient, a factor does
            return loss * self._value if self._gradient else loss + self._value
        return loss

    def discriminator_loss(self, real_logits, fake_logits):
        return self._poisoned("discriminator", super().discriminator_loss(real_logits, fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return self._poisoned("generator", super().generator_loss(fake_logits, real_logits))


class PoisonedPenalty:
    """A penalty that is infinite in chosen steps."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, context):
        value = math.inf if context.step in self.steps else 0.0
        return context.logits("real") * 0 + value


def poisoned(where, steps, **options):
    """Return a trainer and its batches; what `where` names is not finite in the given steps, counted from 0."""
    options = {"device": "cpu", "check_every_steps": 4, "log_every_steps": 100, "execution": "eager"} | options
    batches = POINTS.batches(device="cpu")
    if where == "data":
        batches = [next(iter(batches)).clone() for _ in range(max(steps) + 8)]
        for step in steps:
            batches[step][3, 1] = -math.inf
        return POINTS(**options), batches
    if where == "penalty":
        return POINTS(regularizers=[PoisonedPenalty(steps)], **options), batches
    half, kind = where.split(": ")
    holder = []
    value, gradient = {"nan": (math.nan, True), "infinite value": (math.inf, False), "infinite": (math.inf, True)}[kind]
    holder.append(POINTS(loss=Poisoned(holder, half, steps, value, gradient=gradient), **options))
    return holder[0], batches


PLACES = {
    "discriminator: nan": "weights",
    "discriminator: infinite": "weights",
    "discriminator: infinite value": "discriminator_loss",
    "generator: nan": "weights",
    "generator: infinite value": "generator_loss",
    "penalty": "penalty/",
    "data": "batches",
}
EVERYWHERE = pytest.mark.parametrize("where", PLACES)


def states(trainer):
    return {
        f"{half}.{name}": value.clone()
        for half in ("generator", "discriminator")
        for name, value in getattr(trainer, half).state_dict().items()
    }
