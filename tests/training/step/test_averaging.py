"""The moving average of a generator's weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gankit.errors import BadValueError
from gankit.presets import vanilla_mnist
from gankit.training import WeightAverage
from gankit.training.step.averaging import move_towards
from tests.training.operators import Operators
from tests.training.steps import make, make_batches


@pytest.mark.parametrize("is_on_device", [False, True], ids=["a number", "a tensor, as on a GPU"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_equals_torchs_average_with_buffers(decay, is_on_device):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = WeightAverage(network, decay, ramp=False)
    if is_on_device:
        ours._device_weight = torch.zeros(())  # filled before the next update
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(7):
        network(torch.randn(5, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        theirs.update_parameters(network)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if is_on_device else {}
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():  # torch averages the batch counter too, which has no meaning
            torch.testing.assert_close(ours.network.state_dict()[name], value, **tolerance)
    assert ours.network[1].num_batches_tracked == network[1].num_batches_tracked


def test_its_keys_are_those_of_the_network_and_it_trains_nothing():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(network, 0.9)
    assert average.network.state_dict().keys() == network.state_dict().keys()
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan"), "0.9", True, None])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(BadValueError, match=r"averaging_decay must be in \[0, 1\)"):
        WeightAverage(nn.Linear(1, 1), decay)


# --- the ramp --------------------------------------------------------------------------------------------


def test_the_decay_grows_with_the_number_of_updates():
    layer = nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, 0.3)
    wanted, values = 1.0, [1.0, 3.0, -2.0, 5.0, 0.5]
    for n, value in enumerate(values):
        nn.init.constant_(layer.weight, value)
        average.update()
        decay = min(0.3, (1 + n) / (10 + n)) if n else 0.0  # the first update copies
        wanted = decay * wanted + (1 - decay) * value
        assert average.network.weight.item() == pytest.approx(wanted)
    assert average.present_decay == 0.3


def test_an_average_of_few_updates_does_not_consist_of_the_first_weights():
    layer = nn.Linear(1, 1, bias=False)
    shares = []
    for ramp in (True, False):
        average = WeightAverage(layer, 0.999, ramp=ramp)
        for n in range(50):
            nn.init.constant_(layer.weight, float(n == 0))
            average.update()
        shares.append(average.network.weight.item())
    assert shares[0] < 1e-5
    assert shares[1] == pytest.approx(0.999**49)


def test_the_ramp_continues_from_a_saved_average():
    layer = nn.Linear(2, 2)
    whole, first, second = (WeightAverage(layer, 0.999) for _ in range(3))
    for n in range(10):
        nn.init.constant_(layer.weight, float(n))
        whole.update()
        if n == 5:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        (first if n < 5 else second).update()
    assert torch.equal(second.network.weight, whole.network.weight)


# --- a weight on the device ------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.25, 1.0])
def test_moving_by_a_fraction_on_the_device_equals_lerp(weight):
    targets = [torch.randn(3, 4), torch.randn(5), torch.randn(())]
    sources = [torch.randn_like(one) for one in targets]
    wanted = [torch.lerp(target, source, weight) for target, source in zip(targets, sources, strict=True)]
    before = [source.clone() for source in sources]
    move_towards(targets, sources, torch.tensor(weight))
    torch.testing.assert_close(targets, wanted, rtol=1e-6, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(sources, before, strict=True))


def test_a_decay_that_is_changed_reaches_the_device():
    average = WeightAverage(nn.Linear(1, 1), 0.5, ramp=False)
    average._device_weight = torch.zeros(())
    average.decay = 0.75
    average.prepare(average._source)
    assert average._device_weight.item() == 0.25


def test_the_weight_is_written_to_the_device_only_when_it_changes():
    layer = nn.Linear(1, 1)
    average = WeightAverage(layer, 0.3)
    average._device_weight = torch.zeros(())
    written = []
    for _ in range(8):
        with Operators() as operators:
            average.prepare(layer)
        assert operators.counts.total() == operators.counts[torch.ops.aten.fill_.Scalar]
        written.append(operators.counts.total())
        assert average._device_weight.item() == pytest.approx(1 - average.present_decay)
        average.count()
    assert written == [1, 1, 1, 1, 0, 0, 0, 0]


# --- in a training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ramp", [True, False])
def test_the_average_of_a_training_is_that_of_a_loop_by_hand_to_the_last_bit(ramp):
    trainer = make(averaging_decay=0.4, averaging_ramp=ramp, discriminator_warmup_steps=2)
    by_hand = None
    for done, batch in enumerate(make_batches() * 2):
        trainer.step(batch)
        own = {**dict(trainer.generator.named_parameters()), **dict(trainer.generator.named_buffers())}
        n = done - 2  # the average begins with G's first update
        if n >= 0:
            decay = min(0.4, (1 + n) / (10 + n)) if ramp else 0.4
            by_hand = {
                name: torch.lerp(by_hand[name], one.detach(), 1 - decay)
                if n and one.is_floating_point()
                else one.detach().clone()
                for name, one in own.items()
            }
    averaged = trainer.averaged_generator.state_dict()
    assert averaged.keys() == by_hand.keys()
    for name, value in by_hand.items():
        assert torch.equal(averaged[name], value), name


def test_a_weight_on_the_device_is_the_present_one_in_every_step():
    eager, on_device = (make(averaging_decay=0.9) for _ in range(2))
    on_device.average._device_weight = torch.zeros(())  # as on a GPU, where a captured step reads it
    for batch in make_batches() * 3:
        eager.step(batch)
        on_device.step(batch)
        present = 1 - eager.average.present_decay
        assert on_device.average.present_decay == eager.average.present_decay
        assert on_device.average._device_weight.item() >= present - 1e-6  # of the step that was made
    wanted, found = eager.averaged_generator.state_dict(), on_device.averaged_generator.state_dict()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_average_without_a_ramp_begins_with_the_whole_decay_and_a_recipe_says_so():
    preset = vanilla_mnist.replace(averaging_decay=0.9, averaging_ramp=False)
    assert preset(device="cpu").average.present_decay == 0.9
    assert vanilla_mnist(device="cpu", averaging_decay=0.9).average.present_decay == 0.1
    form = vanilla_mnist.replace(averaging_decay=0.9).to_dict()
    del form["averaging_ramp"]  # a recipe from before
    assert type(preset).from_dict(form).averaging_ramp is True
