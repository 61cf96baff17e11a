"""Keys of the numbers that a compiled or captured step holds."""

from __future__ import annotations

import copy
import math
import weakref
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gankit.errors import CannotCaptureError
from gankit.losses import Hinge, NonSaturating
from gankit.regularizers import Lecam
from gankit.training.step.constants import Constants, Same, counts_refused, description


@dataclass
class Config:
    alpha: float
    tensor: object = None


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight


EQUAL = {
    "losses": (NonSaturating(label_smoothing=0.1), NonSaturating(label_smoothing=0.1)),
    "containers": ([1, (2.0, None)], [1, (2.0, None)]),
    "dictionaries": ({"a": [1]}, {"a": [1]}),
    "objects": (Config(0.5), Config(0.5)),
    "slots": (Slotted(0.5), Slotted(0.5)),
    "NaN": (math.nan, float("nan")),
}
TENSOR = torch.zeros(1)
DIFFERENT = {
    "losses": (NonSaturating(label_smoothing=0.1), NonSaturating(label_smoothing=0.2)),
    "classes": (NonSaturating(), Hinge()),
    "types": (1, 1.0),
    "containers": ([1, (2.0, None)], [1, (2.5, None)]),
    "objects": (Config(0.5), Config(0.6)),
    "slots": (Slotted(0.5), Slotted(0.6)),
    "tensors": (Config(0.5, torch.zeros(1)), Config(0.5, torch.zeros(1))),
    "functions": (lambda x: x, lambda x: x),
    "modules": (nn.ReLU(), nn.ReLU()),
    "objects of objects": (Config(0.5, Config(0.1, Config(0.2))), Config(0.5, Config(0.1, Config(0.2)))),
}


@pytest.mark.parametrize("case", EQUAL)
def test_equal_structures_and_numbers_have_equal_keys(case):
    one, other = map(description, EQUAL[case])
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("case", DIFFERENT)
def test_other_structures_numbers_and_tensors_have_other_keys(case):
    one, other = DIFFERENT[case]
    assert description(one) != description(other)
    assert description(one) == description(one)


def test_the_key_of_an_object_keeps_it():
    part = nn.Linear(1, 1)
    reference = weakref.ref(part)
    key = Same(part)
    del part
    assert reference() is key.value is not None
    assert key == Same(key.value)
    assert key != 3


CHANGES = {
    "a number of a layer": (lambda part: setattr(part[0], "p", 0.1), "Dropout's 'p'"),
    "a new number": (lambda part: setattr(part, "alpha", 0.1), "Sequential's 'alpha'"),
    "a list": (lambda part: part.weights.append(1), "Sequential's 'weights'"),
    "an object": (lambda part: setattr(part.config, "alpha", 0.1), "Sequential's 'config'"),
    "a function": (lambda part: setattr(part, "activation", torch.tanh), "Sequential's 'activation'"),
    "the mode": (lambda part: part.eval(), "Sequential's 'training'"),
    "a number that becomes a list": (lambda part: setattr(part[0], "p", [0.1]), "Dropout's 'p'"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_an_attribute_is_noticed_and_named(case):
    change, name = CHANGES[case]
    part = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    part.weights, part.config, part.activation = [0.5], SimpleNamespace(alpha=0.5), torch.relu
    constants = Constants()
    assert [constants.number([part, Lecam()]) for _ in range(1)] == [0]
    change(part)
    lecam = Lecam()
    assert [constants.number([part, lecam]) for _ in range(2)] == [1, 1]
    assert constants.changed == name


def test_a_value_that_returns_has_its_number_again():
    part, constants, numbers = nn.Dropout(0.5), Constants(), []
    for part.p in (0.5, 0.1, 0.5, 0.1, 0.2):
        numbers.append(constants.number([part]))
    assert numbers == [0, 1, 0, 1, 2]


def test_tensors_and_what_torch_keeps_in_a_module_are_not_numbers():
    part, constants = nn.BatchNorm1d(2), Constants()
    assert constants.number([part]) == 0
    part(torch.randn(3, 2))
    part.kept = torch.zeros(2)
    part.register_forward_hook(lambda *_: None)
    number = constants.number([part])
    part.kept = torch.ones(2)
    assert constants.number([part]) == number == 0


def test_a_count_in_a_block_is_put_back_and_refused():
    part = nn.Linear(1, 1)
    part.calls = 3
    with (
        pytest.raises(CannotCaptureError, match="Linear changes its attribute 'calls', which is no buffer"),
        counts_refused([part], CannotCaptureError),
    ):
        part.calls += 1
    assert part.calls == 3


def test_an_error_in_the_block_is_not_replaced():
    part = nn.Linear(1, 1)
    part.calls = 3

    def fail():
        part.calls += 1
        raise KeyError

    with pytest.raises(KeyError), counts_refused([part], CannotCaptureError):
        fail()
    assert part.calls == 3


def test_a_copy_watches_the_copies_of_its_owners():
    part, constants = nn.Dropout(0.5), Constants()
    constants.number([part])
    others = copy.deepcopy([part, constants])
    assert others[1].number(others[:1]) == 0
    others[0].p = 0.1
    assert others[1].number(others[:1]) == 1
