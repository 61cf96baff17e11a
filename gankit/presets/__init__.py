"""Presets: known-good models put together from registered parts, by name in `PRESETS`."""

from gankit.presets.dcgan import dcgan_mnist
from gankit.presets.preset import PRESETS, Overrides, Preset
from gankit.presets.toy import grid, ring
from gankit.presets.vanilla import vanilla_mnist

__all__ = ["PRESETS", "Overrides", "Preset", "dcgan_mnist", "grid", "ring", "vanilla_mnist"]
