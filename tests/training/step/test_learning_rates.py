"""Learning rates that decay, and learning rates on the device."""

from __future__ import annotations

import io
from functools import partial

import pytest
import torch
from torch import nn

from gankit.errors import (
    BadValueError,
)
from gankit.presets import vanilla_mnist
from gankit.training.step import learning_rates
from tests.training.operators import READS, Operators
from tests.training.steps import (
    adam,
    everything,
    make,
    make_batches,
)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_learning_rates_go_linearly_to_zero(make_trainer, batches, as_tensor):
    trainer = make_trainer(learning_rate_decay_steps=4)
    optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
    if as_tensor:
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = torch.tensor(1e-2)
    seen = []
    for step in range(1, 5):
        trainer.fit(batches, steps=step)
        seen.append([float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers])
    assert seen == [[pytest.approx(1e-2 * factor)] * 2 for factor in (1.0, 0.75, 0.5, 0.25)]
    with pytest.raises(BadValueError, match="learning_rate_decay_steps, after which .* zero, 4, got 5"):
        trainer.fit(batches, steps=5)


def test_decayed_learning_rates_equal_torchs_scheduler(make_trainer, batches):
    ours = make_trainer(learning_rate_decay_steps=5).fit(batches, steps=4)
    theirs = make_trainer()
    schedulers = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=5)
        for optimizer in (theirs.generator_optimizer, theirs.discriminator_optimizer)
    ]
    for step in range(1, 5):
        theirs.fit(batches, steps=step)
        for scheduler in schedulers:
            scheduler.step()
    for mine, other in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_falling_learning_rates_that_lie_on_the_device_are_not_read():
    trainer = vanilla_mnist(device="cpu", learning_rate_decay=True)
    for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        optimizer.param_groups[0]["lr"] = torch.tensor(1e-3)
    trainer._decay_learning_rates()  # notes the first rate
    with Operators() as operators:
        trainer._decay_learning_rates()
    assert not READS & operators.counts.keys()


# --- numbers and tensors ---------------------------------------------------------------------------------


def sgd(*rates):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


KINDS = pytest.mark.parametrize("as_rate", [float, torch.tensor], ids=["numbers", "tensors"])


@KINDS
def test_a_decay_is_a_share_of_the_initial_rate_however_often_it_is_set(as_rate):
    optimizer = sgd(as_rate(0.5), as_rate(0.25))
    rates = [group["lr"] for group in optimizer.param_groups]
    for factor in (1.0, 0.5, 0.5, 0.25, 0.0, 1.0):
        learning_rates.decay([optimizer], factor)
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5 * factor, 0.25 * factor]
        assert [float(group["initial_lr"]) for group in optimizer.param_groups] == [0.5, 0.25]
    if as_rate is torch.tensor:  # a captured step reads these very tensors
        assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


@KINDS
def test_scaling_moves_the_rate_and_where_its_decay_starts_from(as_rate):
    optimizer = sgd(as_rate(0.5))
    learning_rates.scale([optimizer], 0.5)
    assert "initial_lr" not in optimizer.param_groups[0]
    learning_rates.decay([optimizer], 0.5)
    learning_rates.scale([optimizer], 0.5)
    [group] = optimizer.param_groups
    assert (float(group["lr"]), float(group["initial_lr"])) == (0.0625, 0.125)
    learning_rates.decay([optimizer], 1.0)
    assert float(group["lr"]) == 0.125


@KINDS
def test_a_captured_step_contains_the_rates_that_are_numbers(as_rate):
    wanted = (0.5, 0.25) if as_rate is float else (None, None)
    assert learning_rates.constants(sgd(as_rate(0.5), as_rate(0.25))) == wanted


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_comes_back_from_the_device_as_it_was(fused):
    def run(moved):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.25, fused=fused)
        for step in range(6):
            layer(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
            if moved and step == 2:
                learning_rates.put_on_device(optimizer, torch.device("cpu"))
                learning_rates.put_on_host(optimizer)
        return optimizer, [parameter.detach() for parameter in layer.parameters()]

    (moved, ours), (plain, theirs) = run(True), run(False)
    assert moved.param_groups[0]["lr"] == 0.25
    assert type(moved.param_groups[0]["lr"]) is float
    assert moved.param_groups[0]["capturable"] is False
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert [state["step"].item() for state in moved.state.values()] == [6.0, 6.0]
    assert [state["step"].item() for state in plain.state.values()] == [6.0, 6.0]


def test_an_optimizer_that_was_never_on_the_device_keeps_a_rate_that_is_a_tensor():
    optimizer = sgd(torch.tensor(0.5))
    learning_rates.put_on_host(optimizer)
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)


# --- numbers on the device -------------------------------------------------------------------------------


def test_a_capturable_adam_has_its_numbers_in_tensors():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam([{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias], "lr": 0.2}])
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert [group["capturable"] for group in optimizer.param_groups] == [True, True]
    assert [group["lr"].item() for group in optimizer.param_groups] == [pytest.approx(0.1), pytest.approx(0.2)]
    rates = [group["lr"] for group in optimizer.param_groups]
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_a_capturable_adam_keeps_its_count_of_steps():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters())
    for _ in range(3):
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert [state["step"].item() for state in optimizer.state.values()] == [3.0, 3.0]
    assert {state["step"].dtype for state in optimizer.state.values()} == {torch.float32}


def test_an_optimizer_that_cannot_be_capturable_stays_as_it_is():
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.9)
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert "capturable" not in optimizer.param_groups[0]


@pytest.mark.parametrize("optimizer", [adam, partial(adam, fused=True)])
def test_the_state_of_a_captured_run_goes_on_on_the_cpu(optimizer):
    captured = make(optimizer=optimizer).fit(make_batches(), steps=3)
    plain = make(optimizer=optimizer)
    plain.load_state_dict(captured.state_dict())
    for one in (captured.generator_optimizer, captured.discriminator_optimizer):
        learning_rates.put_on_device(one, torch.device("cpu"))  # as on a CUDA device
    file = io.BytesIO()
    torch.save(captured.state_dict(), file)
    file.seek(0)
    trainer = make(optimizer=optimizer)
    trainer.load_state_dict(torch.load(file, weights_only=True))
    for one in (trainer, plain):
        for batch in make_batches():
            one.step(batch)
    for one in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        assert type(one.param_groups[0]["lr"]) is float
        assert one.param_groups[0]["capturable"] is False
    for name, value in everything(plain).items():
        torch.testing.assert_close(everything(trainer)[name], value, rtol=1e-5, atol=1e-6, msg=name)
