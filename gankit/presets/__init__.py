"""Presets: models that are known to work, assembled from registered parts, by name in `PRESETS`."""

from gankit.presets.changes import OptionChanges, Overrides, PresetChanges
from gankit.presets.dcgan import dcgan_mnist
from gankit.presets.goodfellow import goodfellow_2014_mnist
from gankit.presets.preset import PRESETS, Preset
from gankit.presets.stacked import stacked_mnist
from gankit.presets.toy import grid, ring
from gankit.presets.vanilla import vanilla_mnist, vanilla_mnist_tuned

__all__ = [
    "PRESETS",
    "OptionChanges",
    "Overrides",
    "Preset",
    "PresetChanges",
    "dcgan_mnist",
    "goodfellow_2014_mnist",
    "grid",
    "ring",
    "stacked_mnist",
    "vanilla_mnist",
    "vanilla_mnist_tuned",
]
