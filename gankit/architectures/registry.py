"""The registries of generators and discriminators."""

from __future__ import annotations

from torch import nn

from gankit.registry import Registry

GENERATORS = Registry[nn.Module]("generator", group="gankit.generators")
"""Generators, by name; built from `latent_dim` and `sample_shape`."""

DISCRIMINATORS = Registry[nn.Module]("discriminator", group="gankit.discriminators")
"""Discriminators, by name; built from `sample_shape`."""
