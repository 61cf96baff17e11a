"""The registries that `gankit list` and `gankit show` know, imported when they are needed."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import override

from gankit.cli.names import NAMES
from gankit.registry import Registry

_HOMES = {
    "augmentations": "gankit.augmentations:AUGMENTATIONS",
    "blocks": "gankit.blocks:BLOCKS",
    "datasets": "gankit.data:DATASETS",
    "discriminators": "gankit.architectures:DISCRIMINATORS",
    "generators": "gankit.architectures:GENERATORS",
    "latents": "gankit.latents:LATENTS",
    "losses": "gankit.losses:LOSSES",
    "optimizers": "gankit.optimizers:OPTIMIZERS",
    "presets": "gankit.presets:PRESETS",
    "regularizers": "gankit.regularizers:REGULARIZERS",
}


class _Registries(Mapping[str, Registry[Any]]):
    """The registries by kind. Only looking one up imports it, and torch with it."""

    @override
    def __getitem__(self, kind: str) -> Registry[Any]:
        module, _, name = _HOMES[kind].partition(":")
        return getattr(importlib.import_module(module), name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    @override
    def __len__(self) -> int:
        return len(_HOMES)


REGISTRIES: Mapping[str, Registry[Any]] = _Registries()
"""The registries by kind, such as `losses`."""


def part_names(kind: str) -> list[str]:
    """Return the names of all parts of one kind, without importing torch where that is possible.

    It is impossible if another package registers parts, or if the registry was imported already and may have got
    parts since.

    Example:
        >>> part_names("blocks")[:3]
        ['conv_bn_leaky_relu', 'conv_leaky_relu', 'conv_transpose_bn_relu']
    """
    is_imported = _HOMES[kind].partition(":")[0] in sys.modules
    if is_imported or importlib.metadata.entry_points(group=f"gankit.{kind}"):
        return REGISTRIES[kind].names()
    return list(NAMES[kind])
