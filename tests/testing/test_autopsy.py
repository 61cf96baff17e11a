"""Wrong formulas of the field, each with the rule of `gankit.testing` that finds it and a number that shows the damage.

The sixth of them, a discriminator that is called past its wrapper, needs several processes and is found during
training: see `tests/adversary/test_wrapped.py`.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit.adversary import balanced_weight
from gankit.context import StepContext
from gankit.losses import Hinge
from gankit.regularizers import R1, WassersteinGradientPenalty
from gankit.testing import check_halves, check_loss, check_regularizer, check_weight
from tests.testing.catching import assert_caught


def pictures(*levels):
    """Return pictures of one channel, `(2, 1, 1, len(levels))`, which an identity judges by their pixels."""
    return torch.tensor(levels).repeat(2, 1, 1, 1)


def gradient(loss, samples):
    samples = samples.clone().requires_grad_()
    value = loss(samples)
    if value.requires_grad:
        value.backward()
    return value.item(), torch.zeros_like(samples) if samples.grad is None else samples.grad


# --- the right halves -----------------------------------------------------------------------------------------


def generator_loss(discriminator, real, fake):
    discriminator.requires_grad_(False)
    loss = -discriminator(fake).mean()
    discriminator.requires_grad_(True)
    return loss


def discriminator_loss(discriminator, real, fake):
    return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake.detach())).mean()


def test_the_right_halves_pass():
    check_halves(generator_loss, discriminator_loss)


# --- 1: a generator's half without a gradient -------------------------------------------------------------------


def detached_generator_loss(discriminator, real, fake):
    return generator_loss(discriminator, real, fake.detach())


def test_a_generator_half_of_detached_fakes_trains_nothing():
    assert_caught(lambda half: check_halves(half, discriminator_loss), detached_generator_loss, "generator-gradient")
    fakes = pictures(-1.0, 0.5)
    right, wrong = (
        gradient(lambda x, half=half: half(nn.Identity(), None, x), fakes)
        for half in (generator_loss, detached_generator_loss)
    )
    assert right[0] == wrong[0] == 0.25  # the curve of the loss shows nothing
    assert right[1].norm().item() == pytest.approx(0.5)
    assert wrong[1].norm().item() == 0


# --- 2: a hinge after a sigmoid or a tanh -----------------------------------------------------------------------


class SquashedHinge(Hinge):
    squash = staticmethod(torch.tanh)

    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(self.squash(real_logits), self.squash(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return super().generator_loss(self.squash(fake_logits))


class SigmoidHinge(SquashedHinge):
    squash = staticmethod(torch.sigmoid)


@pytest.mark.parametrize(("loss", "left"), [(SquashedHinge(), 1.816e-4), (SigmoidHinge(), 6.648e-3)])
def test_a_hinge_of_bounded_judgements_saturates(loss, left):
    assert_caught(check_loss, loss, "logits")

    def half(discriminator, real, fake):
        return loss.discriminator_loss(discriminator(real).flatten(), discriminator(fake.detach()).flatten()).mean()

    assert_caught(lambda wrong: check_halves(generator_loss, wrong), half, "logits")
    # of the gradient of fakes that D rejects with -5, one part in 5,500 or in 150 is left
    _, right = gradient(lambda x: Hinge().generator_loss(x).sum(), torch.tensor([-5.0]))
    _, wrong = gradient(lambda x: loss.generator_loss(x).sum(), torch.tensor([-5.0]))
    assert (wrong / right).item() == pytest.approx(left, rel=1e-3)


def test_a_discriminator_of_probabilities_cannot_reach_the_margin_of_the_hinge():
    perfect = SigmoidHinge().discriminator_loss(torch.tensor([1e4]), torch.tensor([-1e4]))
    assert perfect.item() == 1.0
    assert Hinge().discriminator_loss(torch.tensor([1e4]), torch.tensor([-1e4])).item() == 0


# --- 3: a gradient penalty whose norm runs over the channels ----------------------------------------------------


class NormOverChannels(R1):
    """(norm - 1)^2 on real samples, whose norm is that of each pixel's channels."""

    def __call__(self, context):
        (slope,) = torch.autograd.grad(context.logits("real").sum(), context.real, create_graph=True)
        return self.weight * self.per_sample((slope.norm(2, dim=1) - 1).square())

    def per_sample(self, penalty):
        return penalty


class MeanOfPixels(NormOverChannels):
    def per_sample(self, penalty):
        return penalty.flatten(1).mean(1) if penalty.ndim > 1 else penalty


class MeanOfEverything(NormOverChannels):
    def per_sample(self, penalty):
        return penalty.mean()


class Slope(nn.Module):
    """A linear D whose gradient for each sample has the given norm."""

    def __init__(self, shape, norm):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, norm / torch.Size(shape).numel() ** 0.5))

    def forward(self, x):
        return (self.weight * x).sum((1, 2, 3))


def test_a_norm_over_channels_asks_for_a_gradient_that_is_longer_by_the_root_of_the_number_of_pixels():
    for part, rule in ((NormOverChannels(), "shape"), (MeanOfEverything(), "not-reduced"), (MeanOfPixels(), "norm")):
        assert_caught(check_regularizer, part, rule)

    def penalty(part, norm):
        x = torch.ones(2, 3, 8, 8, requires_grad=True)
        context = StepContext(discriminator=Slope((3, 8, 8), norm), real=x, fake=x.detach())
        return part(context).mean().item()

    right, wrong = WassersteinGradientPenalty(weight=1.0), MeanOfPixels(weight=1.0)
    assert penalty(right, 1.0) == pytest.approx(0, abs=1e-6)
    assert penalty(wrong, 1.0) == pytest.approx((1 - 1 / 8) ** 2)
    assert penalty(wrong, 8.0) == pytest.approx(0, abs=1e-6)  # 8 = sqrt(8 * 8 pixels)
    assert penalty(right, 8.0) == pytest.approx(49, rel=1e-5)


# --- 4: a balanced weight that is applied three times -----------------------------------------------------------


def cubed(reconstruction, term, *, at):
    return balanced_weight(reconstruction, term, at=at) ** 3


def test_a_weight_that_is_applied_three_times_makes_the_term_the_whole_loss():
    check_weight(balanced_weight)
    assert_caught(check_weight, cubed, "ratio")
    at = torch.ones(1, requires_grad=True)
    reconstruction, term = (10 * at).sum(), at.sum()
    share = {}
    for weight in (balanced_weight, cubed):
        total = weight(reconstruction, term, at=at) * term
        share[weight] = (torch.autograd.grad(total, at, retain_graph=True)[0] / 10).item()
    assert share[balanced_weight] == pytest.approx(1, rel=1e-3)  # as large as the reconstruction's gradient
    assert share[cubed] == pytest.approx(100, rel=1e-3)


# --- 5: positions averaged before the loss ----------------------------------------------------------------------


def averaged_discriminator_loss(discriminator, real, fake):
    of_real, of_fake = (discriminator(x).mean((1, 2, 3)) for x in (real, fake.detach()))
    return F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()


def test_a_loss_of_the_mean_judgement_trains_no_position_by_itself():
    assert_caught(lambda half: check_halves(generator_loss, half), averaged_discriminator_loss, "positions")
    real, fake = pictures(-3.0, 5.0), pictures(-2.0, -2.0)
    right, wrong = (
        gradient(lambda x, half=half: half(nn.Identity(), x, fake), real)
        for half in (discriminator_loss, averaged_discriminator_loss)
    )
    assert (right[0], wrong[0]) == (2.0, 0.0)  # (4 + 0) / 2; the mean judgement, 1, is at the margin
    assert right[1][0].flatten().tolist() == [-0.25, 0.0]  # the position that is wrong, and the one that is right
    assert wrong[1].any().item() is False
