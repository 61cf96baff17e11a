"""What exactness rests on beside the state of a training: machine, settings, data, and the code of its parts."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch

from gankit.training.feed import Feed
from gankit.training.step.state import TrainingState

_KNOWN_BY_VERSION = {"gankit", "torch", "torchvision", *sys.stdlib_module_names}
"""Packages whose code is recognised by their versions, and not by its text."""

_DATA_PARTS = ("batches", "dataset", "sampler", "batch_sampler", "collate_fn", "transform", "target_transform")
_LISTS_OF_DATA_PARTS = ("datasets", "transforms")
"""The attributes in which loaders, data sets and transforms hold what they are made of, the latter often as a list."""

_DATA, _SOURCE = "data: ", "source of "
_sources: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
"""What the code was when it was first looked at: a file may be edited while a training runs."""


def environment_of(state: TrainingState, feed: Feed | None) -> dict[str, str | int]:
    """Return what is compared when a training is resumed, as numbers and short texts by name.

    Example:
        >>> from gankit.presets import ring
        >>> environment_of(ring(device="cpu").state, None)["device"]
        'cpu'
    """
    device = state.device
    facts: dict[str, str | int] = {
        "number of threads": torch.get_num_threads(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "default dtype": str(torch.get_default_dtype()),
        "precision of float32 products": torch.get_float32_matmul_precision(),
        "use of deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
    }
    parts: list[Any] = [state.latent, *state.optimizers, *state.objectives.parts(state.steps_done)]
    parts += {type(module) for network in (state.generator, state.discriminator) for module in network.modules()}
    if feed is not None:
        parts += _parts_of_data(feed.batches)
    facts |= sources_of(parts) | state.sources
    if feed is not None:
        facts |= {f"{_DATA}{name}": value for name, value in feed.fingerprint.items()}
    return facts


def _parts_of_data(batches: object) -> list[object]:
    """Return the objects that batches are made of: a loader, its data sets, samplers and transforms."""
    found: dict[int, object] = {}
    waiting = [batches]
    while waiting:
        source = waiting.pop()
        if source is None or id(source) in found:
            continue
        found[id(source)] = source
        waiting += [getattr(source, name, None) for name in _DATA_PARTS]
        for name in _LISTS_OF_DATA_PARTS:
            parts = getattr(source, name, None)
            waiting += cast("Sequence[object]", parts) if isinstance(parts, (list, tuple)) else [parts]
    return list(found.values())


def sources_of(parts: Iterable[Any]) -> dict[str, str]:
    """Return a SHA-256 of the source of each class or function of others that parts are made of, where it can be read.

    Args:
        parts: Objects, whose classes are taken with the classes that they inherit from, and classes and functions.

    Example:
        >>> sources_of([torch.nn.Linear(1, 1)])
        {}
    """
    found: dict[str, str] = {}
    for part in parts:
        while isinstance(part, functools.partial):
            part = part.func
        kind = cast("type[Any]", part if inspect.isclass(part) else type(part))
        owners: tuple[Any, ...] = (part,) if inspect.isfunction(part) else kind.__mro__
        for owner in owners:
            if str(owner.__module__).partition(".")[0] not in _KNOWN_BY_VERSION and (source := _source(owner)):
                found[f"{_SOURCE}{owner.__module__}.{owner.__qualname__}"] = source
    return found


def _source(owner: Any) -> str | None:
    if owner not in _sources:
        try:
            _sources[owner] = hashlib.sha256(inspect.getsource(owner).encode()).hexdigest()
        except (OSError, TypeError):  # typed into an interpreter, or not written in Python
            _sources[owner] = None
    return _sources[owner]


def without_data(environment: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return what is known beside the data.

    Example:
        >>> without_data({"device": "cpu", "data: content": "3f"})
        {'device': 'cpu'}
    """
    return {name: value for name, value in environment.items() if not name.startswith(_DATA)}


def changes_between(saved: Mapping[str, str | int], present: Mapping[str, str | int]) -> list[str]:
    """Return what has changed, in words. Code of parts that are only in one of the two is no change.

    Example:
        >>> changes_between({"number of threads": 1, "data: content": "3f"}, {"number of threads": 2})
        ['the number of threads is 2, was 1']
    """
    changes: list[str] = []
    for name, value in present.items():
        before = saved.get(name)
        if before == value or (before is None and name.startswith(_SOURCE)):
            continue
        what = f"the {name.removeprefix(_DATA)}{' of the data' if name.startswith(_DATA) else ''}"
        is_hash = isinstance(value, str) and len(value) == 64
        changes.append(f"{what} has changed" if is_hash or before is None else f"{what} is {value}, was {before}")
    return changes
