"""The position in batches from outside gankit is saved and restored if their source allows it.

That training resumes exactly with each kind of source is tested in `tests/resume`.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from gankit.data.epoch_reader import EpochReader

DATA = TensorDataset(torch.arange(12.0))
SOURCES = {
    "list": lambda: [[torch.tensor([float(number)])] for number in range(6)],
    "loader": lambda: DataLoader(DATA, 2),
    "shuffling loader": lambda: DataLoader(DATA, 2, shuffle=True),
    "loader with a generator": lambda: DataLoader(DATA, 2, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "sampler with a generator": lambda: DataLoader(
        DATA, 2, sampler=RandomSampler(DATA, generator=torch.Generator().manual_seed(3))
    ),
}


def numbers(batches):
    return [batch[0].tolist() for batch in batches]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("epoch", "position"), [(0, 1), (0, 4), (1, 2)])
def test_the_rest_of_the_epoch_and_the_next_one_follow_a_restored_position(source, epoch, position):
    torch.manual_seed(5)
    reader = EpochReader(SOURCES[source]())
    for _ in range(epoch):
        list(reader)
    current = iter(reader)
    for _ in range(position):
        next(current)
    state, default = reader.state_dict(), torch.get_rng_state()
    expected = [numbers(current), numbers(reader)]
    resumed = EpochReader(SOURCES[source]())
    resumed.load_state_dict(state)
    torch.set_rng_state(default)
    assert [numbers(resumed), numbers(resumed)] == expected


def test_a_batch_that_could_not_be_used_is_read_again():
    reader = EpochReader(["a", "b", "c"])
    batches = iter(reader)
    next(batches)
    next(batches)
    reader.uncount()
    resumed = EpochReader(["a", "b", "c"])
    resumed.load_state_dict(reader.state_dict())
    assert list(resumed) == ["b", "c"]
