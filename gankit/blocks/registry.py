"""The shelf of blocks."""

from __future__ import annotations

from torch import nn

from gankit.registry import Registry

BLOCKS = Registry[nn.Module]("block", group="gankit.blocks")
"""Builders of blocks, by name; called with the width that comes in and the width that goes out."""
