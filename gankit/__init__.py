"""gankit: parts for generative adversarial networks, one trainer that runs any of them, presets.

The names below are the whole public face at the top; every part also has its own module.
"""

from gankit import (
    architectures,
    augmentations,
    blocks,
    data,
    errors,
    latents,
    losses,
    metrics,
    presets,
    regularizers,
    training,
)
from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.augmentations import AUGMENTATIONS
from gankit.blocks import BLOCKS
from gankit.context import StepContext
from gankit.data import DATASETS
from gankit.errors import GankitError
from gankit.latents import LATENTS
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS
from gankit.presets import PRESETS, Preset
from gankit.registry import Registry, Spec
from gankit.regularizers import REGULARIZERS
from gankit.runs import load_generator as load
from gankit.training import AdversarialTrainer
from gankit.version import __version__

__all__ = [
    "AUGMENTATIONS",
    "BLOCKS",
    "DATASETS",
    "DISCRIMINATORS",
    "GENERATORS",
    "LATENTS",
    "LOSSES",
    "OPTIMIZERS",
    "PRESETS",
    "REGULARIZERS",
    "AdversarialTrainer",
    "GankitError",
    "LossSchedule",
    "Preset",
    "Registry",
    "Spec",
    "StepContext",
    "__version__",
    "architectures",
    "augmentations",
    "blocks",
    "data",
    "errors",
    "latents",
    "load",
    "losses",
    "metrics",
    "presets",
    "regularizers",
    "training",
]
