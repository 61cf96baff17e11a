from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import REGULARIZERS, StepContext
from gankit.errors import BadArgumentsError, BadValueError
from gankit.protocols import Constraint, Regularizer
from gankit.regularizers import R1, WeightClipping

EVERY = pytest.mark.parametrize("name", REGULARIZERS.names())


class LinearCritic(nn.Module):
    """The critic w.x, whose gradient is w everywhere."""

    def __init__(self, shape: tuple[int, ...], length: float) -> None:
        super().__init__()
        w = torch.randn(shape, dtype=torch.float64)
        self.w = nn.Parameter(length * w / w.norm())
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (x * self.w).flatten(1).sum(1)


@EVERY
def test_it_has_the_shape_of_a_regularizer_or_of_a_constraint(name):
    part = REGULARIZERS.build(name)
    assert isinstance(part, (Regularizer, Constraint))
    assert part.every >= 1
    assert REGULARIZERS.summary(name)


@EVERY
@pytest.mark.parametrize("argument", [{"every": 0}, {"every": -1}])
def test_impossible_numbers_are_refused(name, argument):
    with pytest.raises(BadValueError, match="every must be above 0"):
        REGULARIZERS.build(name, **argument)


def test_misspelt_arguments_are_refused_with_the_signature():
    with pytest.raises(
        BadArgumentsError,
        match=r"regularizer 'r1'\(weight: float = 10.0, every: int = 1\) got an unexpected argument 'wieght'\. "
        r"Did you mean 'weight'\?",
    ):
        REGULARIZERS.build("r1", wieght=1.0)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 16, 16)])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("length", [0.0, 1.0, 3.0])
def test_r1_of_a_linear_critic_is_half_the_weight_times_its_squared_length(shape, count, length):
    critic = LinearCritic(shape, length)
    context = StepContext(
        discriminator=critic, real=torch.randn(count, *shape, dtype=torch.float64), gradient_inputs={"real"}
    )
    context.logits("real")
    penalty = R1(weight=10.0)(context)
    torch.testing.assert_close(penalty, torch.full((count,), 5.0 * length**2, dtype=torch.float64))
    assert critic.calls == 1  # the forward pass of the loss is reused
    penalty.sum().backward()
    torch.testing.assert_close(critic.w.grad, 10.0 * count * critic.w.detach())


def test_r1_refuses_a_negative_weight():
    with pytest.raises(BadValueError, match="weight must be 0 or more, got -1"):
        R1(weight=-1.0)


def test_weight_clipping_bounds_every_parameter():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = [p.detach().clone() for p in network.parameters()]
    WeightClipping(bound=0.1).apply(network)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(new, old.clamp(-0.1, 0.1))


def test_weight_clipping_refuses_a_bound_of_zero():
    with pytest.raises(BadValueError, match="bound must be above 0"):
        WeightClipping(bound=0.0)
