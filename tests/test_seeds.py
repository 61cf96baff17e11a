"""One seed gives every stream of random numbers a seed of its own."""

from __future__ import annotations

import hashlib
from typing import get_args

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from gankit.seeds import Stream, stream_seed

STREAMS = get_args(Stream)
SEEDS = st.integers(-(2**70), 2**70)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, stream=st.sampled_from(STREAMS))
def test_it_is_the_first_63_bits_of_the_digest(seed, stream):
    bits = f"{int(hashlib.sha256(f'{seed}/{stream}'.encode()).hexdigest(), 16):0256b}"
    assert stream_seed(seed, stream) == int(bits[:63], 2)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, stream=st.sampled_from(STREAMS))
def test_torch_takes_it_as_it_is(seed, stream):
    derived = stream_seed(seed, stream)
    assert torch.Generator().manual_seed(derived).initial_seed() == derived


def test_no_two_streams_of_no_two_seeds_are_the_same():
    derived = {stream_seed(seed, stream) for seed in range(200) for stream in STREAMS}
    assert len(derived) == 200 * len(STREAMS)


@pytest.mark.parametrize("stream", STREAMS)
def test_no_stream_repeats_the_numbers_of_the_users_seed(stream):
    of_stream = torch.randn(8, generator=torch.Generator().manual_seed(stream_seed(0, stream)))
    of_seed = torch.randn(8, generator=torch.Generator().manual_seed(0))
    assert not (of_stream == of_seed).any()
