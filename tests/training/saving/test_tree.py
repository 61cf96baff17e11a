"""A state goes into JSON and tensors, and comes back exactly."""

from __future__ import annotations

import json
import math
from collections import OrderedDict

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load, save
from torch import nn

from gankit.files import parse_json
from gankit.training.saving.tree import TreeError, flatten, unflatten

DTYPES = [
    *(
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e5m2,
        torch.complex64,
        torch.complex128,
    ),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
    *(
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.bool,
    ),
]


def there_and_back(state):
    """Store a state as the two files of a checkpoint do, and read it again."""
    node, tensors = flatten(state)
    return unflatten(parse_json(json.dumps(node).encode()), load(save(tensors)))


def bits(tensor):
    """Every bit of a tensor's values, in the order of its indices."""
    whole = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return bytes(whole.reshape(-1).view(torch.uint8).tolist())


def layout(tensor):
    """The strides that say where elements are: those of sizes above 1."""
    return [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1 and tensor.numel()]


def assert_same(one, other):
    """Equal types, values, orders and memory layouts; NaN equals NaN, and 0.0 is not -0.0."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, layout(one)) == (other.dtype, other.shape, layout(other))
        assert bits(one) == bits(other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert [type(key) for key in one] == [type(key) for key in other]
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(one, float):
        assert one.hex() == other.hex() or (math.isnan(one) and math.isnan(other))
    elif isinstance(one, complex):
        assert_same([one.real, one.imag], [other.real, other.imag])
    else:
        assert one == other


NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers())
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none())


def tensors():
    shapes = st.lists(st.integers(0, 3), max_size=3)
    made = st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), shapes, st.sampled_from(DTYPES))
    return st.one_of(made, made.filter(lambda one: one.ndim == 3 and one.numel()).map(lambda one: one.transpose(0, 2)))


STATES = st.recursive(
    st.one_of(NUMBERS, tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
    ),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(state=STATES)
def test_every_state_comes_back_exactly(state):
    assert_same(state, there_and_back(state))


@pytest.mark.parametrize("value", [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf, 1e16, 1.0])
def test_floats_are_exact_and_stay_floats(value):
    assert_same([value], there_and_back([value]))


def test_keys_that_json_would_turn_into_texts_stay_what_they_are():
    state = {0: "integer", "0": "text", True: "one", None: "none"}
    assert there_and_back(state) == {0: "integer", "0": "text", True: "one", None: "none"}


def test_an_optimizers_state_has_its_integer_keys():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), betas=(0.5, 0.999))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    found = there_and_back(optimizer.state_dict())
    assert_same(optimizer.state_dict(), found)
    assert found["param_groups"][0]["betas"] == (0.5, 0.999)
    optimizer.load_state_dict(found)


def test_a_modules_state_keeps_the_versions_of_its_layers():
    state = nn.BatchNorm1d(2).state_dict()
    found = there_and_back(state)
    assert_same(state, found)
    assert found._metadata == state._metadata


def test_the_memory_layout_of_moments_is_kept():
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = there_and_back({"exp_avg": channels_last, "view": torch.arange(6.0).reshape(2, 3).t()})
    assert found["exp_avg"].stride() == channels_last.stride()
    assert torch.equal(found["exp_avg"], channels_last)
    assert found["view"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_one_tensor_in_two_places_comes_back_twice():
    weight = torch.ones(2)
    found = there_and_back({"a": weight, "b": [weight]})
    assert torch.equal(found["a"], found["b"][0])


def test_paths_that_read_alike_do_not_meet():
    state = {
        "a.b": torch.zeros(1),
        "a": {"b": torch.ones(1), "b'": torch.full((1,), 2.0)},
        "a.b'": torch.full((1,), 3.0),
    }
    assert_same(state, there_and_back(state))


def test_everything_that_a_state_may_hold_comes_back():
    state = {"complex": torch.ones(2, dtype=torch.complex64).conj(), "bytes": b"\xff" * 300, "size": torch.Size([1, 2])}
    state |= {"numbers": [1j, -(2**70), True, None], "empty": [(), [], {}, OrderedDict()], 3: torch.Size([])}
    state |= {"device": torch.device("cpu"), "cuda": torch.device("cuda:1"), "types": DTYPES, "none": torch.empty(0)}
    assert_same(state, there_and_back(state))


def test_the_oldest_safetensors_can_store_what_it_is_given():
    """Version 0.5 has no complex numbers, and no unsigned integers of more than 8 bits."""
    _, tensors = flatten([torch.ones(2).to(dtype) for dtype in DTYPES])
    assert not {one.dtype for one in tensors.values()} & {torch.complex64, torch.complex128, torch.uint16, torch.uint64}
    assert not {one.dtype for one in tensors.values()} & {torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.uint32}


def test_keys_that_no_file_can_hold_come_back():
    state = {"\ud800": torch.zeros(1), "\\ud800": torch.ones(1), "a\0": {"": torch.ones(())}}
    assert_same(state, there_and_back(state))


def test_nesting_is_bounded_when_it_is_read():
    state = [1]
    for _ in range(200):
        state = [state]
    with pytest.raises(TreeError, match="nested too deeply"):
        unflatten(*flatten(state))
