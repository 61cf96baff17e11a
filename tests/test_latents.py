"""What holds for every latent, and the distributions of ours."""

from __future__ import annotations

import math

import pytest
import torch

from gankit import LATENTS, Spec
from gankit.errors import BadArgumentsError, BadValueError
from gankit.latents import OneHotNormal
from gankit.protocols import Latent

CPU = torch.device("cpu")
EVERY = pytest.mark.parametrize("name", LATENTS.names())
ARGUMENTS = {"one_hot_normal": {"categories": 1}}  # what a latent needs beside its length


def build(name, **arguments):
    return LATENTS.build(name, **ARGUMENTS.get(name, {}), **arguments)


def draw(name, count=5, latent_dim=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    return build(name, latent_dim=latent_dim)(count, generator=random, device=CPU)


@EVERY
def test_it_has_the_shape_of_a_latent(name):
    latent = build(name, latent_dim=3)
    assert isinstance(latent, Latent)
    assert latent.shape == (3,)
    assert LATENTS.summary(name)


@EVERY
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_it_draws_one_row_a_sample(name, count, latent_dim):
    z = draw(name, count, latent_dim)
    assert z.shape == (count, latent_dim)
    assert z.dtype == torch.float32
    assert not z.requires_grad


@EVERY
def test_it_draws_on_the_device_asked_for(name):
    z = build(name, latent_dim=3)(5, generator=None, device=torch.device("meta"))
    assert z.device.type == "meta"


@EVERY
def test_the_generator_alone_decides_what_is_drawn(name):
    before = torch.get_rng_state()
    assert torch.equal(draw(name, seed=1), draw(name, seed=1))
    assert not torch.equal(draw(name, seed=1), draw(name, seed=2))
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_two_draws_from_one_generator_differ(name):
    latent, random = build(name, latent_dim=3), torch.Generator().manual_seed(0)
    assert not torch.equal(latent(5, generator=random, device=CPU), latent(5, generator=random, device=CPU))


@EVERY
def test_without_a_generator_it_draws_from_torchs_own(name):
    latent = build(name, latent_dim=3)
    torch.manual_seed(7)
    first = latent(5, generator=None, device=CPU)
    torch.manual_seed(7)
    assert torch.equal(latent(5, generator=None, device=CPU), first)


@EVERY
def test_it_is_compared_by_value(name):
    assert build(name, latent_dim=3) == LATENTS.build(Spec(name, latent_dim=3, **ARGUMENTS.get(name, {})))
    assert build(name, latent_dim=3) != build(name, latent_dim=4)


@EVERY
@pytest.mark.parametrize("latent_dim", [0, -1])
def test_an_impossible_length_is_refused(name, latent_dim):
    with pytest.raises(BadValueError, match=f"^latent_dim must be above 0, got {latent_dim}$"):
        build(name, latent_dim=latent_dim)


@EVERY
def test_misspelt_and_missing_arguments_are_refused(name):
    with pytest.raises(BadArgumentsError, match="unexpected argument 'latent_dm'. Did you mean 'latent_dim'"):
        LATENTS.build(name, latent_dm=3)
    with pytest.raises(BadArgumentsError, match="'latent_dim'"):
        LATENTS.build(name)


# mean, standard deviation, and E[x^4] / E[x^2]^2, which tells the normal from the uniform distribution
@pytest.mark.parametrize(("name", "deviation", "fourth"), [("normal", 1.0, 3.0), ("uniform", 1 / math.sqrt(3), 9 / 5)])
def test_its_moments_are_those_of_its_distribution(name, deviation, fourth):
    z = draw(name, count=100_000, latent_dim=2).double()
    assert z.mean(0).abs().max() < 5 * deviation / math.sqrt(len(z))
    torch.testing.assert_close(z.std(0), torch.full((2,), deviation, dtype=torch.float64), rtol=0.02, atol=0)
    kurtosis = z.pow(4).mean(0) / z.pow(2).mean(0).square()
    torch.testing.assert_close(kurtosis, torch.full((2,), fourth, dtype=torch.float64), rtol=0.05, atol=0)
    assert abs(float(torch.corrcoef(z.T)[0, 1])) < 0.02


def test_uniform_latents_reach_both_ends_and_no_further():
    z = draw("uniform", count=100_000, latent_dim=1)
    assert -1 <= z.min() < -0.999
    assert 0.999 < z.max() < 1


def test_the_limit_of_uniform_latents_scales_them():
    wide = build("uniform", latent_dim=3, limit=math.sqrt(3))(5, generator=torch.Generator().manual_seed(0), device=CPU)
    torch.testing.assert_close(wide, draw("uniform") * math.sqrt(3))
    assert build("uniform", latent_dim=3, limit=1.0) == build("uniform", latent_dim=3)
    with pytest.raises(BadValueError, match=r"^limit must be above 0, got 0.0$"):
        build("uniform", latent_dim=3, limit=0.0)


def one_hot(**arguments):
    return OneHotNormal(**({"latent_dim": 7, "categories": 4} | arguments))


def test_one_hot_normal_is_a_code_and_narrow_normals():
    z = one_hot(standard_deviation=0.25)(20_000, generator=torch.Generator().manual_seed(0), device=CPU)
    code, normals = z[:, :4], z[:, 4:].double()
    assert set(code.unique().tolist()) == {0.0, 1.0}
    assert bool((code.sum(1) == 1).all())
    torch.testing.assert_close(code.mean(0), torch.full((4,), 0.25), rtol=0, atol=5 * math.sqrt(0.25 * 0.75 / len(z)))
    assert normals.mean(0).abs().max() < 5 * 0.25 / math.sqrt(len(z))
    torch.testing.assert_close(normals.std(0), torch.full((3,), 0.25, dtype=torch.float64), rtol=0.02, atol=0)
    # normals do not tell the category
    assert float(torch.corrcoef(torch.cat([code.double(), normals], 1).T)[:4, 4:].abs().max()) < 0.04


def test_one_hot_normal_can_be_a_code_alone():
    z = one_hot(latent_dim=4)(5, generator=None, device=CPU)
    assert z.shape == (5, 4)
    assert bool((z.sum(1) == 1).all())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"categories": 0}, "categories must be above 0, got 0"),
        ({"categories": 8}, "categories must be at most latent_dim=7, got 8"),
        ({"standard_deviation": -0.1}, "standard_deviation must be 0 or more, got -0.1"),
    ],
)
def test_one_hot_normal_refuses_what_cannot_be(arguments, says):
    with pytest.raises(BadValueError, match=f"^{says}$"):
        one_hot(**arguments)
