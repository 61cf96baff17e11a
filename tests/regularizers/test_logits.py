"""Penalties on logits, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import StepContext
from gankit.errors import ShapeError
from gankit.regularizers import Lecam, LogitDrift


def given_logits(real: torch.Tensor, fake: torch.Tensor) -> StepContext:
    return StepContext(discriminator=nn.Flatten(0), real=real.unsqueeze(1), fake=fake.unsqueeze(1))


def test_logit_drift_is_the_weighted_square_on_real_samples():
    real, fake = torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close(LogitDrift(weight=0.3)(given_logits(real, fake)), 0.3 * real**2)
    torch.testing.assert_close(LogitDrift()(given_logits(real, fake)), 0.001 * real**2)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_lecam_equals_the_formula_written_by_hand_over_many_steps(decay):
    lecam = Lecam(weight=0.7, decay=decay)
    seen = []
    for step in range(6):
        real, fake = torch.randn(2, 5, dtype=torch.float64) + step
        real.requires_grad_()
        fake.requires_grad_()
        values = lecam(given_logits(real, fake))

        seen.append((real.mean().item(), fake.mean().item()))
        weights = [decay**age for age in range(len(seen))][::-1]  # 0 ** 0 is 1
        alpha_r = sum(w * r for w, (r, _) in zip(weights, seen, strict=True)) / sum(weights)
        alpha_f = sum(w * f for w, (_, f) in zip(weights, seen, strict=True)) / sum(weights)
        assert lecam.real_average.item() == pytest.approx(alpha_r, rel=1e-9)
        assert lecam.fake_average.item() == pytest.approx(alpha_f, rel=1e-9)
        assert lecam.updates_done == step + 1
        torch.testing.assert_close(values, 0.7 * ((real - alpha_f) ** 2 + (fake - alpha_r) ** 2))

        values.sum().backward()  # the averages are constants
        torch.testing.assert_close(real.grad, 1.4 * (real.detach() - alpha_f))
        torch.testing.assert_close(fake.grad, 1.4 * (fake.detach() - alpha_r))


def test_rectified_lecam_squares_the_positive_parts():
    lecam = Lecam(weight=0.7, decay=0.5, rectified=True)
    lecam(given_logits(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0])))  # averages of 2 and 0
    lecam.eval()
    real = torch.tensor([1.5, -1.0], requires_grad=True)
    fake = torch.tensor([1.0, 3.0], requires_grad=True)
    values = lecam(given_logits(real, fake))
    # max(0, D(x) - 0)^2 + max(0, 2 - D(y))^2
    torch.testing.assert_close(values, 0.7 * torch.tensor([1.5**2 + 1.0, 0.0]))
    slopes = torch.autograd.grad(values.sum(), (real, fake))
    torch.testing.assert_close(slopes, (torch.tensor([2.1, 0.0]), torch.tensor([-1.4, 0.0])))


def test_lecams_averages_start_at_the_first_batch_and_have_no_graph():
    lecam = Lecam()
    lecam(given_logits(torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([-4.0, -6.0])))
    assert lecam.real_average.item() == 2.0
    assert lecam.fake_average.item() == -5.0
    assert not lecam.real_average.requires_grad
    assert list(lecam.parameters()) == []


def test_lecam_goes_on_from_its_state():
    batches = torch.randn(4, 2, 5, dtype=torch.float64)
    lecam, resumed = Lecam(), Lecam()
    for real, fake in batches[:2]:
        lecam(given_logits(real, fake))
    assert set(lecam.state_dict()) == {"real_average", "fake_average", "updates_done"}
    resumed.load_state_dict(lecam.state_dict())
    for real, fake in batches[2:]:
        assert torch.equal(resumed(given_logits(real, fake)), lecam(given_logits(real, fake)))


def test_lecam_refuses_unequal_batches():
    with pytest.raises(ShapeError, match=r"got \(4,\) and \(1,\)"):
        Lecam()(given_logits(torch.zeros(4), torch.zeros(1)))


def test_lecam_shows_its_arguments():
    assert repr(Lecam(weight=0.5)) == "Lecam(weight=0.5, decay=0.99, every=1)"
