"""The random generators of batches, of one model and of replicas."""

from __future__ import annotations

import pytest
import torch

from gankit.data import TensorBatches
from gankit.data.random_streams import generators_behind, restore_generators, seeded_generators
from gankit.errors import BadArgumentsError
from gankit.presets import ring

CPU = torch.device("cpu")


def test_each_replica_draws_like_a_single_model_with_its_own_seed():
    together = seeded_generators(5, "data order", replicas=3, device=CPU)
    alone = [seeded_generators(seed, "data order", replicas=None, device=CPU)[0] for seed in (5, 6, 7)]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


def test_each_rank_draws_other_numbers():
    first, second = (seeded_generators(5, "toy data", replicas=None, device=CPU, rank=rank)[0] for rank in (0, 1))
    assert not torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_states_change_nothing(count):
    generators = seeded_generators(5, "data order", replicas=2, device=CPU)
    before = [one.get_state() for one in generators]
    with pytest.raises(BadArgumentsError, match=f"^state must hold 2 generators, one per replica, got {count}$"):
        restore_generators(generators, [torch.Generator().manual_seed(9).get_state()] * count)
    assert all(torch.equal(one.get_state(), state) for one, state in zip(generators, before, strict=True))


# --- states of other batches -----------------------------------------------------------------------------


def resident():
    return TensorBatches(torch.zeros(8, 2), batch_size=2, sample_range=None)


def sampled():
    return ring.batches(device="cpu")


@pytest.mark.parametrize("make", [resident, sampled])
@pytest.mark.parametrize(
    "change",
    [
        lambda state, other: {},
        lambda state, other: other,
        lambda state, other: {**state, "random": [torch.zeros(3)]},
        lambda state, other: {**state, "random": ["3"]},
        lambda state, other: {**state, "random": []},
    ],
    ids=["nothing", "other batches", "no states", "texts", "too few"],
)
def test_the_state_of_other_batches_is_refused_and_changes_nothing(make, change):
    batches, twin = make(), make()
    other = sampled() if make is resident else resident()
    with pytest.raises(BadArgumentsError, match="must have|must hold"):
        batches.load_state_dict(change(make().state_dict(), other.state_dict()))
    assert torch.equal(next(iter(batches)), next(iter(twin)))


class AttributeDict(dict):
    """A common kind of configuration: its entries are attributes too, and others raise `KeyError`."""

    __getattr__ = dict.__getitem__


class Configured:
    """A data set whose attributes may raise anything."""

    def __init__(self):
        self.config = AttributeDict(own=torch.Generator())

    @property
    def args(self):
        raise RuntimeError


def test_attributes_that_raise_errors_hide_no_generator():
    configured = Configured()
    assert generators_behind(configured)[-1] is configured.config["own"]
