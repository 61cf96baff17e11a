"""Optional members of parts: gankit's own parts declare them, and wrapped networks keep them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS, LATENTS, LOSSES, StepContext
from gankit.architectures.layers import MinibatchStandardDeviation
from gankit.data import SampledBatches, StreamBatches, TensorBatches, ring
from gankit.errors import BadArgumentsError
from gankit.losses import LossSchedule
from gankit.protocols import (
    BuildsLosses,
    HasBatchMultiple,
    HasDevice,
    HasFeatures,
    HasLogOdds,
    HasLosses,
    HasShape,
    KnownFinite,
    MixesSamples,
    NotRestorable,
    ScheduledLoss,
    batch_multiple_of,
    features_of,
    has_log_odds,
)

LOG_ODDS = {"minimax", "non_saturating", "f_divergence"}


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_loss_declares_log_odds_or_does_not_have_them(name):
    loss = LOSSES.build(name)
    assert isinstance(loss, HasLogOdds) is (name in LOG_ODDS)
    assert has_log_odds(loss) is (name in LOG_ODDS)


def test_a_schedule_builds_losses_and_lists_them():
    schedule = LossSchedule({0: "minimax"})
    assert isinstance(schedule, BuildsLosses)
    assert not isinstance(schedule, ScheduledLoss)
    assert isinstance(schedule.build(), ScheduledLoss)
    assert isinstance(schedule.build(), HasLosses)


@pytest.mark.parametrize("name", LATENTS.names())
def test_a_latent_has_a_shape(name):
    arguments = {"latent_dim": 12} | ({"categories": 10} if name == "one_hot_normal" else {})
    latent = LATENTS.build(name, **arguments)
    assert isinstance(latent, HasShape)
    assert tuple(latent.shape) == (12,)


@pytest.mark.parametrize(
    "batches",
    [
        TensorBatches(torch.rand(4, 3), batch_size=2),
        SampledBatches(ring(), batch_size=2),
        StreamBatches([torch.rand(2, 3)]),
    ],
    ids=lambda batches: type(batches).__name__,
)
def test_batches_have_a_device_and_say_whether_they_are_finite(batches):
    assert isinstance(batches, HasDevice)
    assert isinstance(batches, KnownFinite)
    assert isinstance(batches, NotRestorable) is isinstance(batches, StreamBatches)


def test_layers_that_mix_samples_say_so():
    assert isinstance(MinibatchStandardDeviation(), MixesSamples)
    assert not isinstance(nn.Linear(2, 2), MixesSamples)


# --- networks, also wrapped ones -------------------------------------------------------------------------


class Wrapper(nn.Module):
    """Passes unknown attributes on, as the modules of `torch.compile` do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *inputs):
        return self.network(*inputs)


WRAPPERS = pytest.mark.parametrize(
    "wrap",
    [lambda network: network, Wrapper, nn.DataParallel, torch.compile],
    ids=["bare", "wrapper", "module", "compile"],
)


@WRAPPERS
def test_features_are_found(wrap):
    critic = DISCRIMINATORS.build("mlp", sample_shape=(3,), hidden_dim=8)
    assert isinstance(critic, HasFeatures)
    x = torch.rand(4, 3)
    features = features_of(wrap(critic))
    assert features is not None
    torch.testing.assert_close(features(x, None), critic.features(x))
    context = StepContext(discriminator=wrap(critic), real=x)
    torch.testing.assert_close(context.features("real"), critic.features(x))


@WRAPPERS
def test_batch_multiples_are_found(wrap):
    packed = DISCRIMINATORS.build("packed", sample_shape=(3,), packing=4)
    assert isinstance(packed, HasBatchMultiple)
    assert batch_multiple_of(wrap(packed)) == 4


@WRAPPERS
def test_a_network_without_the_members_is_no_error(wrap):
    plain = wrap(nn.Linear(3, 1))
    assert features_of(plain) is None
    assert batch_multiple_of(plain) == 1


def test_a_layer_named_features_is_not_a_method():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier = nn.Linear(3, 4), nn.Linear(4, 1)

    assert features_of(Halves()) is None


def test_features_that_a_discriminator_does_not_have_are_refused():
    with pytest.raises(BadArgumentsError, match=r"must have features\(x, condition\), or .* got a Linear without"):
        StepContext(discriminator=nn.Linear(3, 1), real=torch.rand(4, 3)).features("real")
    packed = DISCRIMINATORS.build("packed", sample_shape=(3,), packing=2)
    packed.discriminator = nn.Linear(6, 1)
    with pytest.raises(BadArgumentsError, match="got Linear"):
        packed.features(torch.rand(4, 3))
