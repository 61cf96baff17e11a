"""Values that are not finite are found, and changes can be undone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gankit.training.step.finite import FiniteWatch, Undoable, all_finite, largest_magnitude


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_largest_value_shows_what_is_not_finite(bad):
    assert not largest_magnitude([torch.zeros(3), torch.tensor([0.0, bad])])[0].isfinite()
    assert largest_magnitude([]) == []
    assert all_finite([torch.tensor([1.0, bad]), torch.tensor([2.0, 3.0])]).tolist() == [True, False]


def test_undone_changes_are_put_back():
    layer = nn.BatchNorm1d(2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    before = [t.clone() for t in (*layer.parameters(), *layer.buffers())]
    steps = next(iter(optimizer.state.values()))["step"].clone()
    for keep in (False, True):
        undoable = Undoable(optimizer, [layer])
        layer(torch.randn(4, 2) + 3)
        optimizer.step()
        undoable.keep_if(torch.tensor(keep))
        same = [torch.equal(a, b) for a, b in zip(before, (*layer.parameters(), *layer.buffers()), strict=True)]
        assert all(same) != keep
        assert torch.equal(steps, next(iter(optimizer.state.values()))["step"]) != keep


def test_skipped_updates_are_counted_in_float32_whatever_the_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # which counts to 256
    try:
        assert FiniteWatch("skip").skipped.dtype == torch.float32
    finally:
        torch.set_default_dtype(before)
