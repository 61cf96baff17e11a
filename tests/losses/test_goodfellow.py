"""The two losses of Goodfellow et al. 2014 against their formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch

from gankit import LOSSES
from gankit.errors import BadValueError

LOGITS = torch.cat([torch.linspace(-30, 30, 121), torch.tensor([-1e4, -100.0, 100.0, 1e4])])


def log_sigmoid(x: float) -> float:
    """log D for the logit x, without cancellation."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def formulas(x: float) -> dict[str, float]:
    return {
        "log D": log_sigmoid(x),
        "log(1 - D)": log_sigmoid(-x),
        "D": math.exp(log_sigmoid(x)),
        "1 - D": math.exp(log_sigmoid(-x)),
    }


def close(actual: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=3e-7, atol=1e-38)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_discriminator_ascends_log_d_of_x_plus_log_one_minus_d_of_g(name):
    loss = LOSSES.build(name)
    fake = LOGITS.flip(0)
    expected = [-formulas(r)["log D"] - formulas(f)["log(1 - D)"] for r, f in zip(LOGITS, fake.tolist(), strict=True)]
    close(loss.discriminator_loss(LOGITS, fake), expected)


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        # d/dl log(1 - D) = -D;  d/dl -log D = -(1 - D)
        ("minimax", lambda x: formulas(x)["log(1 - D)"], lambda x: -formulas(x)["D"]),
        ("non_saturating", lambda x: -formulas(x)["log D"], lambda x: -formulas(x)["1 - D"]),
    ],
)
def test_the_generators_half_has_the_value_and_the_gradient_of_its_formula(name, value, slope):
    logits = LOGITS.clone().requires_grad_()
    out = LOSSES.build(name).generator_loss(logits)
    close(out, [value(x) for x in LOGITS.tolist()])
    (gradient,) = torch.autograd.grad(out.sum(), logits)
    close(gradient, [slope(x) for x in LOGITS.tolist()])


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_one_sided_smoothing_is_a_soft_target_for_real_samples_alone(name, smoothing):
    loss, fake = LOSSES.build(name, label_smoothing=smoothing), torch.zeros_like(LOGITS)
    targets = torch.full_like(LOGITS, 1 - smoothing)
    on_real = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, targets, reduction="none")
    torch.testing.assert_close(loss.discriminator_loss(LOGITS, fake), on_real + math.log(2))
    assert torch.equal(loss.generator_loss(LOGITS), LOSSES.build(name).generator_loss(LOGITS))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_an_impossible_smoothing_is_refused(smoothing):
    with pytest.raises(BadValueError, match=r"label_smoothing must be in \[0, 1\)"):
        LOSSES.build("minimax", label_smoothing=smoothing)


def test_the_heuristic_has_a_gradient_where_minimax_has_none():
    rejected = torch.full((4,), -20.0, requires_grad=True)
    gradients = {
        name: torch.autograd.grad(LOSSES.build(name).generator_loss(rejected).sum(), rejected)[0]
        for name in ("minimax", "non_saturating")
    }
    assert gradients["minimax"].abs().max() < 1e-8
    assert (gradients["non_saturating"] < -0.99).all()


def test_the_value_at_the_optimal_discriminator_is_the_jensen_shannon_divergence():
    data = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    model = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    logits = (data / model).log()  # D* = data / (data + model)
    loss = LOSSES.build("minimax")
    per_outcome = loss.discriminator_loss(logits, logits), -loss.generator_loss(logits)
    # -V = E_data[softplus(-l)] + E_model[softplus(l)]; the second returns softplus(l) alone
    on_fake = per_outcome[1]
    on_real = per_outcome[0] - on_fake
    value = -(data * on_real).sum() - (model * on_fake).sum()
    middle = (data + model) / 2
    divergence = ((data * (data / middle).log()).sum() + (model * (model / middle).log()).sum()) / 2
    assert value.item() == pytest.approx(-math.log(4) + 2 * divergence.item(), abs=1e-12)
