from __future__ import annotations

import typing

import pytest
import torch
from hypothesis import given, settings

from gankit.errors import BadValueError
from gankit.losses import Divergence, FDivergence, Minimax, NonSaturating
from tests.losses.discrete import distributions, expected_discriminator_loss

NAMES = typing.get_args(Divergence)

# the divergence of p and q, and the logits v = g^-1(f'(p / q)) of the optimal discriminator
EXACT = {
    "kl": (lambda p, q: (p * (p / q).log()).sum(), lambda u: 1 + u.log()),
    "reverse_kl": (lambda p, q: (q * (q / p).log()).sum(), lambda u: u.log()),
    "pearson_chi2": (lambda p, q: ((p - q) ** 2 / q).sum(), lambda u: 2 * (u - 1)),
    "squared_hellinger": (lambda p, q: ((p.sqrt() - q.sqrt()) ** 2).sum(), lambda u: u.log() / 2),
    "jensen_shannon": (lambda p, q: twice_jsd(p, q), lambda u: u.log()),
    "gan": (lambda p, q: twice_jsd(p, q) - torch.tensor(4.0, dtype=torch.float64).log(), lambda u: u.log()),
    # the supremum is reached at infinity; tanh is 1 to the last bit long before
    "total_variation": (lambda p, q: (p - q).abs().sum() / 2, lambda u: (u - 1).sign() * 50),
}


def twice_jsd(p, q):
    middle = (p + q) / 2
    return (p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(p=distributions, q=distributions)
def test_at_the_optimal_discriminator_its_value_is_the_divergence(name, p, q):
    divergence, optimal = EXACT[name]
    value = -expected_discriminator_loss(FDivergence(name), optimal(p / q), p, q)
    assert value == pytest.approx(float(divergence(p, q)), abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(p=distributions, q=distributions)
def test_any_other_discriminator_gives_a_lower_bound(name, p, q):
    divergence, optimal = EXACT[name]
    others = optimal(p / q) + torch.tensor([0.3, -0.2, 0.1, -0.4], dtype=torch.float64)
    assert -expected_discriminator_loss(FDivergence(name), others, p, q) <= float(divergence(p, q)) + 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_its_halves_are_made_of_activation_and_conjugate(name):
    loss = FDivergence(name)
    real, fake = torch.linspace(-3, 3, 50, dtype=torch.float64), torch.linspace(2, -2, 50, dtype=torch.float64)
    conjugate = loss.conjugate(loss.activation(fake))
    torch.testing.assert_close(loss.discriminator_loss(real, fake), conjugate - loss.activation(real))
    torch.testing.assert_close(loss.generator_loss(fake), -conjugate)
    torch.testing.assert_close(FDivergence(name, non_saturating=True).generator_loss(fake), -loss.activation(fake))


@pytest.mark.parametrize("name", NAMES)
def test_its_gradients_are_those_of_finite_differences(name):
    real, fake = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(FDivergence(name).discriminator_loss, (real, fake))
    assert torch.autograd.gradcheck(FDivergence(name).generator_loss, (fake,))
    assert torch.autograd.gradgradcheck(FDivergence(name).discriminator_loss, (real, fake))


def test_gan_is_minimax_and_its_alternative_is_non_saturating():
    real, fake = torch.randn(2, 9)
    assert torch.equal(FDivergence("gan").discriminator_loss(real, fake), Minimax().discriminator_loss(real, fake))
    assert torch.equal(FDivergence("gan").generator_loss(fake), Minimax().generator_loss(fake))
    alternative = FDivergence("gan", non_saturating=True)
    assert torch.equal(alternative.generator_loss(fake), NonSaturating().generator_loss(fake))


@pytest.mark.parametrize("name", ["pearson_chi2", "jensen_shannon", "gan", "total_variation"])
def test_those_without_an_exponential_are_finite_far_from_zero(name):
    logits = torch.tensor([-1e4, -50.0, 50.0, 1e4])
    assert FDivergence(name).discriminator_loss(logits, logits.flip(0)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "real", "fake"),
    [("kl", 0.0, 100.0), ("squared_hellinger", 0.0, 100.0), ("reverse_kl", -100.0, 0.0)],
)
def test_those_that_overflow_by_nature_are_not_clamped(name, real, fake):
    loss = FDivergence(name).discriminator_loss(torch.tensor([real]), torch.tensor([fake]))
    assert loss.isposinf().all()


def test_an_unknown_divergence_is_refused():
    with pytest.raises(BadValueError, match="divergence must be one of kl, reverse_kl, .*, got 'kullback'"):
        FDivergence("kullback")
