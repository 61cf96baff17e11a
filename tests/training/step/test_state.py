"""A training that goes on from a saved state."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from gankit import LossSchedule
from gankit.data import TensorBatches
from gankit.errors import BadArgumentsError
from gankit.losses import NonSaturating
from gankit.regularizers import R1
from tests.training.observing import same, weights
from tests.training.steps import SHAPE


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"averaging_decay": 0.9, "discriminator_steps": 2, "regularizers": [R1()]},
        {"learning_rate_decay_steps": 20},
    ],
)
def test_a_loaded_state_continues_to_the_last_bit(make_trainer, options):
    def data():
        samples = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(2))
        return TensorBatches(samples, batch_size=6, sample_range=None)

    def network():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.3), nn.Linear(8, 1), nn.Flatten(0))

    whole = make_trainer(discriminator=network(), **options).fit(data(), steps=11)

    first = make_trainer(discriminator=network(), **options)
    first_data = data()
    first.fit(first_data, steps=4)
    file = io.BytesIO()
    torch.save({"trainer": first.state_dict(), "data": first_data.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    second, second_data = make_trainer(discriminator=network(), **options), data()
    torch.manual_seed(99)  # dropout's generator is part of the state
    second.load_state_dict(state["trainer"])
    second_data.load_state_dict(state["data"])
    second.fit(second_data, steps=11)
    assert second.steps_done == 11
    for name in ("generator", "discriminator"):
        assert same(weights(getattr(whole, name)), weights(getattr(second, name)))
    assert torch.equal(whole.sample(3), second.sample(3))


def test_a_state_of_another_kind_is_refused(make_trainer):
    trainer = make_trainer()
    with pytest.raises(BadArgumentsError, match="state_dict of format 1, got None"):
        trainer.load_state_dict({})
    with pytest.raises(BadArgumentsError, match="without averaging_decay, this one is with"):
        make_trainer(averaging_decay=0.5).load_state_dict(trainer.state_dict())


def test_the_state_of_a_scheduled_loss_is_saved(make_trainer):
    class Counting(nn.Module, NonSaturating):
        def __init__(self):
            nn.Module.__init__(self)
            self.register_buffer("count", torch.zeros(()))

    first = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    first.loss.count.fill_(7.0)
    second = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    second.load_state_dict(first.state_dict())
    assert second.loss.count == 7.0
