from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gankit import LOSSES, Spec
from gankit.errors import BadArgumentsError, ConformanceError, ShapeError
from gankit.testing import check_loss

NAMES = LOSSES.names("relativistic*")

# each sample by itself, with the other side's mean, as the papers write it with the sigmoid
BY_HAND = {
    "relativistic": lambda r, f, mean_r, mean_f: -math.log(sigmoid(r - f)),
    "relativistic_average": lambda r, f, mean_r, mean_f: (
        -math.log(sigmoid(r - mean_f)) - math.log(1 - sigmoid(f - mean_r))
    ),
    "relativistic_average_least_squares": lambda r, f, mean_r, mean_f: (r - mean_f - 1) ** 2 + (f - mean_r + 1) ** 2,
    "relativistic_average_hinge": lambda r, f, mean_r, mean_f: max(0.0, 1 - (r - mean_f)) + max(0.0, 1 + (f - mean_r)),
}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("name", NAMES)
def test_both_halves_are_the_papers_formula(name):
    real, fake = torch.randn(2, 6, dtype=torch.float64)
    loss = LOSSES.build(name)

    def by_hand(a, b):
        pairs = zip(a.tolist(), b.tolist(), strict=True)
        values = [BY_HAND[name](x, y, a.mean().item(), b.mean().item()) for x, y in pairs]
        return torch.tensor(values, dtype=torch.float64)

    torch.testing.assert_close(loss.discriminator_loss(real, fake), by_hand(real, fake))
    torch.testing.assert_close(loss.generator_loss(fake, real), by_hand(fake, real))


@pytest.mark.parametrize("name", NAMES)
def test_only_differences_count(name):
    real, fake = torch.randn(2, 6, dtype=torch.float64)
    loss = LOSSES.build(name)
    torch.testing.assert_close(loss.discriminator_loss(real + 5, fake + 5), loss.discriminator_loss(real, fake))


@pytest.mark.parametrize("name", [*NAMES, "softmax"])
def test_the_generators_half_says_that_it_needs_the_real_logits(name):
    loss = LOSSES.build(name)
    assert loss.needs_real_logits
    with pytest.raises(BadArgumentsError, match=r"needs real_logits, the logits D\(real\), got None"):
        loss.generator_loss(torch.zeros(3))
    with pytest.raises(ShapeError, match="same shape"):
        loss.generator_loss(torch.zeros(3), torch.zeros(1))


def test_softmax_is_a_cross_entropy_over_the_batch():
    real, fake = torch.randn(2, 5, dtype=torch.float64)
    everything = torch.cat([real, fake])[None]
    on_real = torch.cat([torch.full((5,), 1 / 5), torch.zeros(5)]).double()[None]
    on_all = torch.full((1, 10), 1 / 10, dtype=torch.float64)
    loss = LOSSES.build("softmax")
    torch.testing.assert_close(loss.discriminator_loss(real, fake).mean(), F.cross_entropy(everything, on_real))
    torch.testing.assert_close(loss.generator_loss(fake, real).mean(), F.cross_entropy(everything, on_all))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "relativistic"])
def test_detached_means_are_constants_in_the_gradient_of_the_discriminators_half_alone(name):
    loss, plain = LOSSES.build(Spec(name, detach_means=True)), LOSSES.build(name)
    real, fake = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.equal(loss.discriminator_loss(real, fake), plain.discriminator_loss(real, fake))
    means, step = (real.mean().item(), fake.mean().item()), 1e-6
    for side, got in enumerate(torch.autograd.grad(loss.discriminator_loss(real, fake).sum(), (real, fake))):
        for r, f, gradient in zip(real.tolist(), fake.tolist(), got.tolist(), strict=True):
            ends = [BY_HAND[name](r + (1 - side) * d, f + side * d, *means) for d in (step, -step)]
            assert gradient == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)
    ours, theirs = (torch.autograd.grad(one.generator_loss(fake, real).sum(), (real, fake)) for one in (loss, plain))
    assert all(map(torch.equal, ours, theirs))
    with pytest.raises(ConformanceError, match="'differentiable'"):
        check_loss(loss)
    check_loss(loss, skip=["differentiable"])
