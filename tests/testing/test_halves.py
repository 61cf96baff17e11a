"""`check_halves`: wrong halves of a loop are caught, right ones pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit import LOSSES, Spec
from gankit.adversary import Adversary
from gankit.testing import RULES, check_halves
from tests.testing.catching import assert_caught


def generator_loss(discriminator, real, fake):
    discriminator.requires_grad_(False)
    loss = -discriminator(fake).mean()
    discriminator.requires_grad_(True)
    return loss


def discriminator_loss(discriminator, real, fake):
    return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake.detach())).mean()


# --- one mistake each -----------------------------------------------------------------------------------------


def without_mean(discriminator, real, fake):
    return F.relu(1 - discriminator(real)) + F.relu(1 + discriminator(fake.detach()))


def without_gradient(discriminator, real, fake):
    return generator_loss(discriminator, real, fake.detach())


def unfrozen(discriminator, real, fake):
    return -discriminator(fake).mean()


def forgets_to_thaw(discriminator, real, fake):
    return -discriminator.requires_grad_(False)(fake).mean()


def attached_fakes(discriminator, real, fake):
    return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()


def swapped(discriminator, real, fake):
    return discriminator_loss(discriminator, real=fake.detach(), fake=real)


def wrong_sign(discriminator, real, fake):
    return -generator_loss(discriminator, real, fake)


def hinge_of_tanh(discriminator, real, fake):
    return discriminator_loss(nn.Sequential(discriminator, nn.Tanh()), real, fake)


def hinge_of_sigmoid(discriminator, real, fake):
    return discriminator_loss(nn.Sequential(discriminator, nn.Sigmoid()), real, fake)


def generator_of_tanh(discriminator, real, fake):
    return generator_loss(nn.Sequential(discriminator, nn.Tanh()), real, fake)


def mean_of_the_map_first(discriminator, real, fake):
    real_judgement, fake_judgement = (discriminator(x).mean((1, 2, 3)) for x in (real, fake.detach()))
    return F.relu(1 - real_judgement).mean() + F.relu(1 + fake_judgement).mean()


def mean_of_the_batch_first(discriminator, real, fake):
    return F.softplus(-discriminator(real).mean()) + F.softplus(discriminator(fake.detach()).mean())


def generator_with_the_mean_first(discriminator, real, fake):
    discriminator.requires_grad_(False)
    loss = F.softplus(-discriminator(fake).mean((1, 2, 3))).mean()
    discriminator.requires_grad_(True)
    return loss


WRONG_HALVES = [
    (generator_loss, without_mean, "scalar"),
    (without_gradient, discriminator_loss, "generator-gradient"),
    (unfrozen, discriminator_loss, "frozen-discriminator"),
    (generator_loss, attached_fakes, "detached-fakes"),
    (forgets_to_thaw, discriminator_loss, "discriminator-gradient"),
    (generator_loss, swapped, "discriminator-direction"),
    (wrong_sign, discriminator_loss, "generator-direction"),
    (generator_loss, hinge_of_tanh, "logits"),
    (generator_loss, hinge_of_sigmoid, "logits"),
    (generator_of_tanh, discriminator_loss, "non-saturating"),
    (generator_loss, mean_of_the_map_first, "positions"),
    (generator_loss, mean_of_the_batch_first, "positions"),
    (generator_with_the_mean_first, discriminator_loss, "positions"),
]


@pytest.mark.parametrize(
    ("generator", "discriminator", "rule"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1].__name__}") for case in WRONG_HALVES],
)
def test_a_wrong_half_is_caught_by_the_rule_it_breaks(generator, discriminator, rule):
    assert_caught(lambda first: check_halves(first, discriminator), generator, rule)


def test_every_rule_for_halves_has_a_wrong_half():
    assert {rule for *_, rule in WRONG_HALVES} == RULES["halves"].keys()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 33), (2, 3, 4, 5), (2,)])
def test_the_halves_without_their_mistakes_pass(shape):
    check_halves(generator_loss, discriminator_loss, sample_shape=shape)


def test_a_loop_that_empties_the_gradients_of_the_discriminator_skips_a_rule():
    check_halves(unfrozen, discriminator_loss, skip=["frozen-discriminator"])


def one_pass(discriminator, real, fake):
    of_real, of_fake = discriminator(torch.cat([real, fake.detach()])).chunk(2)
    return F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()


def test_a_half_that_concatenates_its_passes_passes():
    check_halves(generator_loss, one_pass)


def halves(**arguments):
    def of_G(discriminator, real, fake):
        return Adversary(discriminator, **arguments).generator_loss(real=real, fake=fake, step=0)

    def of_D(discriminator, real, fake):
        return Adversary(discriminator, **arguments).discriminator_loss(real=real, fake=fake, step=0)

    return of_G, of_D


SATURATING = {"minimax", "f_divergence"}


@pytest.mark.parametrize("loss", LOSSES.names())
def test_an_adversary_passes_with_every_loss(loss):
    check_halves(*halves(loss=loss), skip=["non-saturating"] if loss in SATURATING else [])


@pytest.mark.parametrize("name", ["r1", "r1_r2", "wasserstein_gradient_penalty", "dragan", "lecam", "logit_drift"])
def test_penalties_do_not_hide_the_loss(name):
    check_halves(*halves(loss="hinge", regularizers=[Spec(name)]))
