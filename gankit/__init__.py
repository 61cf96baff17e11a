"""gankit: parts for generative adversarial networks, one trainer that runs any of them, and presets.

The names below are everything that gankit exports at the top. Every part also has a module of its own. Names are
imported when they are first used, so that `import gankit` does not import torch.
"""

from typing import TYPE_CHECKING

from gankit._lazy import lazy_names
from gankit.version import __version__

if TYPE_CHECKING:
    from gankit import (
        adversary,
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
    from gankit.adversary import Adversary, Balancer, balanced_weight
    from gankit.answers import Answer
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
else:  # hidden from type checkers, which would take any name for an attribute of a module with `__getattr__`
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "AUGMENTATIONS": "gankit.augmentations:AUGMENTATIONS",
            "BLOCKS": "gankit.blocks:BLOCKS",
            "DATASETS": "gankit.data:DATASETS",
            "DISCRIMINATORS": "gankit.architectures:DISCRIMINATORS",
            "GENERATORS": "gankit.architectures:GENERATORS",
            "LATENTS": "gankit.latents:LATENTS",
            "LOSSES": "gankit.losses:LOSSES",
            "OPTIMIZERS": "gankit.optimizers:OPTIMIZERS",
            "PRESETS": "gankit.presets:PRESETS",
            "REGULARIZERS": "gankit.regularizers:REGULARIZERS",
            "AdversarialTrainer": "gankit.training:AdversarialTrainer",
            "Adversary": "gankit.adversary:Adversary",
            "Answer": "gankit.answers:Answer",
            "Balancer": "gankit.adversary:Balancer",
            "GankitError": "gankit.errors:GankitError",
            "LossSchedule": "gankit.losses:LossSchedule",
            "Preset": "gankit.presets:Preset",
            "Registry": "gankit.registry:Registry",
            "Spec": "gankit.spec:Spec",
            "StepContext": "gankit.context:StepContext",
            "balanced_weight": "gankit.adversary:balanced_weight",
            "load": "gankit.runs:load_generator",
        },
    )

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
    "Adversary",
    "Answer",
    "Balancer",
    "GankitError",
    "LossSchedule",
    "Preset",
    "Registry",
    "Spec",
    "StepContext",
    "__version__",
    "adversary",
    "architectures",
    "augmentations",
    "balanced_weight",
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
