"""The sizes and the precision of the networks that are stacked."""

from __future__ import annotations

import torch

SHAPE = (1, 8, 8)
MLP = {"widths": (8, 6), "dtype": torch.float64}


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
