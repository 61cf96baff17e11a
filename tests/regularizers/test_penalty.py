"""The base classes of penalties, in penalties of somebody's own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from gankit import REGULARIZERS, StepContext
from gankit.errors import BadArgumentsError, BadValueError
from gankit.protocols import Regularizer
from gankit.regularizers import AveragingPenalty, Penalty
from gankit.testing import check_regularizer
from tests.regularizers.networks import make_batches, make_trainer

PENALTIES = [name for name in REGULARIZERS.names() if name != "weight_clipping"]


@dataclass(frozen=True)
class Drift(Penalty):
    real_weight: float = 1.0
    fake_weight: float = 1.0
    every: int = 1
    weights: ClassVar[tuple[str, ...]] = ("real_weight", "fake_weight")

    def __call__(self, context: StepContext) -> Tensor:
        real, fake = context.logits("real"), context.logits("fake")
        return self.real_weight * real.square() + self.fake_weight * fake.square()


class ToMeanLogit(AveragingPenalty):
    average: Tensor

    def __init__(self, weight: float = 1.0, decay: float = 0.9, every: int = 1) -> None:
        super().__init__(weight, decay, every)
        self.register_buffer("average", torch.zeros(()))

    def forward(self, context: StepContext) -> Tensor:
        logits = context.logits("real")
        mean = logits.detach().mean(-1)
        average = self.fit_buffer("average", mean)
        if self.training:
            average.lerp_(mean, 1 - self.decay)
        return self.weight * (logits - average.unsqueeze(-1)).square()


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_of_gankit_has_the_base_class(name):
    assert isinstance(REGULARIZERS.build(name), Penalty)


def test_a_penalty_without_a_call_cannot_be_made():
    @dataclass(frozen=True)
    class Nothing(Penalty):
        weight: float = 1.0
        every: int = 1

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


@pytest.mark.parametrize("penalty", [Drift(), ToMeanLogit()], ids=lambda penalty: type(penalty).__name__)
def test_a_subclass_is_a_regularizer_and_trains(penalty):
    assert isinstance(penalty, Regularizer)
    assert penalty.half == "discriminator"
    assert penalty.gradient_inputs == frozenset()
    check_regularizer(penalty, batch_statistic=isinstance(penalty, AveragingPenalty))
    trainer = make_trainer(regularizers={"own": penalty})
    for batch in make_batches(2):
        assert trainer.step(batch)["penalty/own"].isfinite()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"real_weight": -1.0}, "real_weight must be 0 or more, got -1.0"),
        ({"fake_weight": float("nan")}, "fake_weight must be 0 or more, got nan"),
        ({"every": 0}, "every must be above 0, got 0"),
    ],
)
def test_the_weights_and_every_are_checked(arguments, says):
    with pytest.raises(BadValueError, match=says):
        Drift(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"weight": -1.0}, BadValueError, "weight must be 0 or more, got -1.0"),
        ({"weight": "much"}, BadArgumentsError, "weight must be a number, got 'much'"),
        ({"decay": 1.0}, BadValueError, r"decay must be in \[0, 1\), got 1.0"),
        ({"every": 0}, BadValueError, "every must be above 0, got 0"),
    ],
)
def test_the_arguments_of_an_averaging_penalty_are_checked(arguments, error, says):
    with pytest.raises(error, match=says):
        ToMeanLogit(**arguments)


def test_an_average_takes_the_shape_of_the_replicas_when_called_and_when_loaded():
    x = torch.randn(3, 5, 1, dtype=torch.float64)
    penalty = ToMeanLogit(decay=0.0)
    penalty(StepContext(discriminator=nn.Flatten(1), real=x, replicas=3))
    assert penalty.average.shape == (3,)
    torch.testing.assert_close(penalty.average, x.mean((1, 2)))

    fresh = ToMeanLogit()
    fresh.load_state_dict(copy.deepcopy(penalty.state_dict()))
    assert torch.equal(fresh.average, penalty.average)
    assert fresh.average.dtype == torch.float64


def test_a_buffer_that_fits_is_kept():
    penalty = ToMeanLogit()
    before = penalty.average
    assert penalty.fit_buffer("average", torch.ones(())) is before
    assert repr(penalty) == "ToMeanLogit(weight=1.0, decay=0.9, every=1)"
