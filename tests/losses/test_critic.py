from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from gankit.errors import BadValueError
from gankit.losses import EnergyBased, Hinge, LeastSquares, Wasserstein
from tests.losses.discrete import distributions, expected_discriminator_loss, expected_generator_loss


def test_wasserstein_with_the_best_critic_is_the_earth_movers_distance():
    places = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=torch.float64)
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    q = torch.tensor([0.1, 0.1, 0.3, 0.5], dtype=torch.float64)
    # in one dimension W1 is the area between the distribution functions
    gaps, between = places.diff(), (p - q).cumsum(0)[:-1]
    distance = (gaps * between.abs()).sum()
    # the best 1-Lipschitz critic falls where p is ahead
    critic = torch.cat([torch.zeros(1, dtype=torch.float64), (-gaps * between.sign()).cumsum(0)])
    assert -expected_discriminator_loss(Wasserstein(), critic, p, q) == pytest.approx(float(distance), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(p=distributions, q=distributions)
def test_hinge_at_its_optimum_is_two_less_the_sum_of_differences(p, q):
    value = expected_discriminator_loss(Hinge(), (p - q).sign(), p, q)
    assert value == pytest.approx(2 - float((p - q).abs().sum()), abs=1e-12)


def test_hinge_has_no_gradient_beyond_its_margin():
    real = torch.tensor([1.5, 0.5], requires_grad=True)
    fake = torch.tensor([-1.5, -0.5], requires_grad=True)
    real_slope, fake_slope = torch.autograd.grad(Hinge().discriminator_loss(real, fake).sum(), (real, fake))
    assert real_slope.tolist() == [0.0, -1.0]
    assert fake_slope.tolist() == [0.0, 1.0]


def test_hinge_with_a_clipped_generator_is_encodecs():
    """As `relu(1 - D(G)).mean()` of Défossez et al. 2022, section 3.4, with no gradient above 1."""
    fake = torch.tensor([-2.0, 0.5, 1.5], requires_grad=True)
    loss = Hinge(clipped_generator=True)
    value = loss.generator_loss(fake)
    assert value.tolist() == [3.0, 0.5, 0.0]
    assert torch.autograd.grad(value.sum(), fake)[0].tolist() == [-1.0, -1.0, 0.0]
    assert Hinge().generator_loss(fake).tolist() == [2.0, -0.5, -1.5]
    real = torch.randn(3)
    assert torch.equal(loss.discriminator_loss(real, fake), Hinge().discriminator_loss(real, fake))


@settings(max_examples=40, deadline=None)
@given(p=distributions, q=distributions)
def test_least_squares_with_the_papers_targets_is_a_pearson_divergence(p, q):
    loss = LeastSquares(a=-1.0, b=1.0, c=0.0)
    optimal = (loss.b * p + loss.a * q) / (p + q)
    # the same half again on the data, which has no gradient for G
    value = expected_generator_loss(loss, optimal, q) + float((p * (optimal - loss.c) ** 2 / 2).sum())
    pearson = float(((2 * q - (p + q)) ** 2 / (p + q)).sum())
    assert value == pytest.approx(pearson / 2, abs=1e-12)
    slope = torch.autograd.functional.jacobian(
        lambda logits: sum(
            (p[:, None] * q[None, :] * loss.discriminator_loss(*torch.broadcast_tensors(logits[:, None], logits))).sum(
                1
            )
        ),
        optimal,
    )
    assert slope.abs().max() < 1e-12  # it is the optimum


@pytest.mark.parametrize("targets", [{}, {"a": -1.0, "b": 1.0, "c": 0.0}])
def test_least_squares_draws_to_its_targets(targets):
    loss = LeastSquares(**targets)
    real, fake = torch.full((1,), loss.b), torch.full((1,), loss.a)
    assert loss.discriminator_loss(real, fake).item() == 0.0
    assert loss.generator_loss(torch.full((1,), loss.c)).item() == 0.0
    assert loss.discriminator_loss(real + 2, fake + 1).item() == 2.5


def test_energy_based_is_its_formula_of_energies():
    real_energy, fake_energy = torch.rand(2, 8) * 4
    loss = EnergyBased(margin=2.0)
    expected = real_energy + (2.0 - fake_energy).clamp(min=0)
    torch.testing.assert_close(loss.discriminator_loss(-real_energy, -fake_energy), expected)
    assert torch.equal(loss.generator_loss(-fake_energy), fake_energy)


def test_energy_based_in_equilibrium_is_its_margin():
    # Zhao et al. 2016, theorem 1: where model and data agree, any energy below the margin gives m
    logits = -torch.rand(5)
    torch.testing.assert_close(EnergyBased(margin=3.0).discriminator_loss(logits, logits), torch.full((5,), 3.0))


@pytest.mark.parametrize("other", [Hinge(), EnergyBased()])
def test_the_generators_half_is_wassersteins(other):
    fake = torch.randn(5)
    assert torch.equal(other.generator_loss(fake), Wasserstein().generator_loss(fake))


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_an_impossible_margin_is_refused(margin):
    with pytest.raises(BadValueError, match="margin must be above 0"):
        EnergyBased(margin=margin)
