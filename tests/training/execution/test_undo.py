"""Everything that a step changes is put back if the step is undone."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from gankit import LossSchedule
from gankit.data import SampledBatches
from gankit.data import ring as ring_data
from gankit.regularizers import R1, Lecam, PathLength
from gankit.training.execution.undo import undone
from tests.training.steps import (
    SHAPE,
    CountingLoss,
    assert_equal,
    counts,
    everything,
    make,
    make_batches,
    randoms,
    small_networks,
    stacked,
    step_of,
    with_dropout,
)

STATES = {
    "adam": dict,
    "momentum": lambda: {"optimizer": partial(torch.optim.SGD, lr=1e-2, momentum=0.9)},
    "plain sgd": lambda: {"optimizer": partial(torch.optim.SGD, lr=1e-2)},
    "rmsprop": lambda: {"optimizer": partial(torch.optim.RMSprop, lr=1e-2)},
    "nadam": lambda: {"optimizer": partial(torch.optim.NAdam, lr=1e-2)},
    "averaging": lambda: {"averaging_decay": 0.9},
    "parts": lambda: {"regularizers": [R1(), Lecam(), PathLength()]},
    "loss": lambda: {"loss": CountingLoss()},
    "scheduled loss": lambda: {"loss": LossSchedule({0: CountingLoss()})},
}


@pytest.mark.parametrize("case", STATES)
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back_whatever_happened(case, fails):
    trainer = make(networks=with_dropout, **STATES[case]())
    for batch in make_batches()[:2]:
        trainer.step(batch)
    before = everything(trainer), randoms(trainer), counts(trainer)
    places = {name: value.data_ptr() for name, value in trainer.generator.state_dict().items()}
    step = step_of(trainer)
    try:
        with undone(trainer.state):
            for batch in make_batches():
                step([(batch, None)])
            assert everything(trainer).keys() == before[0].keys()
            assert not torch.equal(everything(trainer)["G.network.1.weight"], before[0]["G.network.1.weight"])
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert_equal(everything(trainer), before[0])
    assert all(torch.equal(one, other) for one, other in zip(randoms(trainer), before[1], strict=True))
    assert counts(trainer) == before[2]
    assert {name: value.data_ptr() for name, value in trainer.generator.state_dict().items()} == places


@pytest.mark.parametrize("case", STATES)
def test_training_goes_on_as_if_nothing_had_been_tried(case):
    undisturbed = make(networks=with_dropout, **STATES[case]()).fit(make_batches(), steps=6)
    wanted = randoms(undisturbed)
    trainer = make(networks=with_dropout, **STATES[case]())
    data = make_batches()
    for steps in (2, 4, 6):
        trainer.fit(data, steps=steps)
        with undone(trainer.state):
            step_of(trainer)([(data[0], None)])
    assert_equal(everything(trainer), everything(undisturbed))
    assert all(torch.equal(a, b) for a, b in zip(randoms(trainer), wanted, strict=True))


def test_a_first_step_that_is_undone_was_none():
    """The optimizers' states did not exist before it."""
    undisturbed, trainer = make(), make()
    with undone(trainer.state):
        step_of(trainer)([(make_batches()[0], None)])
    assert not trainer.generator_optimizer.state
    assert not trainer.discriminator_optimizer.state
    undisturbed.fit(make_batches(), steps=2)
    trainer.fit(make_batches(), steps=2)
    assert_equal(everything(trainer), everything(undisturbed))


def test_further_generators_are_put_back():
    trainer, source = make(), SampledBatches(ring_data(), batch_size=4)
    before = [one.get_state() for one in source.generators]
    with undone(trainer.state, source.generators):
        source.read(0)
    assert all(torch.equal(state, one.get_state()) for state, one in zip(before, source.generators, strict=True))


def test_replicas_are_put_back():
    trainer = make(networks=stacked(small_networks, 2))
    batch = torch.randn(2, 6, *SHAPE)
    trainer.step(batch)
    before = everything(trainer), [one.get_state() for one in trainer.randomness.noises]
    with undone(trainer.state):
        step_of(trainer)([(batch, None)])
    assert_equal(everything(trainer), before[0])
    assert all(torch.equal(a, b.get_state()) for a, b in zip(before[1], trainer.randomness.noises, strict=True))
