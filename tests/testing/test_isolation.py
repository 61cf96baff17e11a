"""A check leaves the part and the caller's settings as they are, and does not depend on them."""

from __future__ import annotations

import copy
import random
import warnings

import pytest
import torch

from gankit.errors import ConformanceError
from gankit.losses import Minimax
from gankit.regularizers import R1
from gankit.testing import check_block, check_discriminator, check_generator, check_loss, check_regularizer
from tests.testing.wrong_losses import NoisyLabels, SwappedTargets
from tests.testing.wrong_networks import Layers, Logits


def test_checks_leave_the_random_state_the_gradient_mode_and_the_part_unchanged():
    network = Layers(4, 2).eval()
    network.first.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    states = torch.get_rng_state(), random.getstate()
    with torch.no_grad():
        check_generator(network, latent_dim=4, sample_shape=(2,))
        check_block(Layers)
        check_loss(Minimax())
        check_regularizer(R1())
        for part in (NoisyLabels(), SwappedTargets()):
            with pytest.raises(ConformanceError):
                check_loss(part)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert not network.training
    assert not network.first.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_checks_work_under_any_settings_of_the_caller():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            check_block(Layers)
            check_loss(Minimax())
            check_regularizer(R1())
        check_generator(Layers(4, 2), latent_dim=4, sample_shape=(2,))
        check_discriminator(Logits(2, 1), sample_shape=(2,))
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_part_that_warns_passes():
    class Warns(Minimax):
        def generator_loss(self, fake_logits, real_logits=None):
            warnings.warn("beware", stacklevel=1)
            return super().generator_loss(fake_logits)

    check_loss(Warns())
