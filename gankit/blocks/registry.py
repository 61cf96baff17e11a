"""The registry of blocks."""

from __future__ import annotations

from torch import nn

from gankit.registry import Registry

BLOCKS = Registry[nn.Module]("block", group="gankit.blocks")
"""Factories of blocks, by name; called with the input width and the output width."""
