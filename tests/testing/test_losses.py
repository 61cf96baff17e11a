"""`check_loss`: wrong losses are caught, right ones pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gankit import LOSSES
from gankit.errors import ConformanceError
from gankit.losses import Minimax
from gankit.losses.f_divergence import FDivergence
from gankit.protocols import check_same_batch
from gankit.testing import RULES, check_loss
from tests.testing.catching import assert_caught, wrong_parts
from tests.testing.wrong_losses import WRONG_LOSSES, NonSaturatingThatSaturates


@wrong_parts(WRONG_LOSSES)
def test_a_wrong_loss_is_caught_by_the_rule_it_breaks(part, rule):
    assert_caught(check_loss, part, rule)


def test_every_rule_for_losses_has_a_wrong_loss():
    assert {rule for _, rule in WRONG_LOSSES} == RULES["loss"].keys()


class LeastSquaresWithABuffer(nn.Module):
    """Least squares with its targets in a buffer."""

    needs_real_logits = False

    def __init__(self):
        super().__init__()
        self.register_buffer("targets", torch.tensor([0.0, 1.0]))

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        fake, real = self.targets.to(real_logits.dtype)
        return (real_logits - real).square() + (fake_logits - fake).square()

    def generator_loss(self, fake_logits, real_logits=None):
        return (fake_logits - self.targets[1].to(fake_logits.dtype)).square()


def test_a_loss_with_buffers_passes():
    check_loss(LeastSquaresWithABuffer())


@pytest.mark.parametrize("name", LOSSES.names())
def test_gankit_losses_pass(name):
    check_loss(LOSSES.build(name))


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "squared_hellinger"])
def test_an_unbounded_loss_passes_only_with_bounded_false(divergence):
    loss = FDivergence(divergence)
    with pytest.raises(ConformanceError, match="'finite'"):
        check_loss(loss)
    check_loss(loss, bounded=False)


def test_saturating_decides_whether_the_rule_non_saturating_applies():
    check_loss(Minimax())
    with pytest.raises(ConformanceError, match="'non-saturating'"):
        check_loss(Minimax(), saturating=False)
    check_loss(NonSaturatingThatSaturates(), saturating=True)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_smoothed_labels_are_still_log_odds(smoothing):
    check_loss(replace(Minimax(), label_smoothing=smoothing))
