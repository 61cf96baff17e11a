"""Random generators of batches and of data sets: how they are seeded, found, saved and restored."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError
from gankit.protocols import State
from gankit.seeds import Stream, replica_seeds, stream_seed

_MOST_ITEMS = 1_000
_MOST_OBJECTS = 10_000
_DEEPEST = 8


def seeded_generators(
    seed: int, stream: Stream, *, replicas: int | None, device: torch.device, rank: int = 0
) -> list[torch.Generator]:
    """Return the generator of one stream of random numbers for each replica; one generator without replicas.

    Example:
        >>> len(seeded_generators(0, "data order", replicas=3, device=torch.device("cpu")))
        3
    """
    return [
        torch.Generator(device).manual_seed(stream_seed(own_seed, stream, rank))
        for own_seed in replica_seeds(seed, replicas)
    ]


def check_names(state: State, names: set[str]) -> None:
    """Raise `BadArgumentsError` unless the saved place in some batches has exactly these entries.

    Example:
        >>> check_names({"position": 3}, {"random"})
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: the place in the batches must have ['random'], got ['position']
    """
    if set(state) != names:
        raise BadArgumentsError(f"the place in the batches must have {sorted(names)}, got {sorted(state)}")


def restore_generators(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    """Set the generators to the states that were saved from them.

    Raises:
        BadArgumentsError: If there are more or fewer states than generators.

    Example:
        >>> generator = torch.Generator().manual_seed(3)
        >>> state, first = generator.get_state(), torch.rand(1, generator=generator)
        >>> restore_generators([generator], [state])
        >>> bool(torch.rand(1, generator=generator) == first)
        True
    """
    if len(states) != len(generators):
        raise BadArgumentsError(f"state must hold {len(generators)} generators, one per replica, got {len(states)}")
    before = [generator.get_state() for generator in generators]
    try:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state.cpu())
    except (AttributeError, TypeError, RuntimeError) as error:  # a state of something else
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
        raise BadArgumentsError(f"state must hold the states of generators: {error}") from error


# --- generators of torch, numpy and Python that a data set draws from ----------------------------------------


def generators_behind(*sources: object) -> list[Any]:
    """Return the global generators of Python and numpy, and those that the sources hold, in a fixed order.

    The attributes and items of the sources are searched, and what the functions among them close over. Of a container
    with many items, only the first thousand are looked at.

    Example:
        >>> class Noisy:
        ...     def __init__(self):
        ...         self.transforms = [random.Random(3), torch.Generator()]
        >>> [type(one).__name__ for one in generators_behind(Noisy())][-2:]
        ['Random', 'Generator']
    """
    numpy = sys.modules.get("numpy")
    return [random, *([] if numpy is None else [numpy.random]), *_held(sources)]


def _held(sources: Sequence[object]) -> Iterator[Any]:
    kinds = _kinds()
    seen: set[int] = set()
    waiting: list[tuple[object, int]] = [(one, 0) for one in reversed(sources)]
    while waiting and len(seen) < _MOST_OBJECTS:
        value, depth = waiting.pop()
        if id(value) in seen or isinstance(value, (str, bytes, int, float, Tensor, type, ModuleType)):
            continue
        seen.add(id(value))
        if isinstance(value, kinds):
            if not isinstance(value, random.SystemRandom):
                yield value
        elif depth < _DEEPEST:
            waiting += [(one, depth + 1) for one in reversed(list(_parts(value)))]


def _kinds() -> tuple[type, ...]:
    numpy: Any = sys.modules.get("numpy")
    own = () if numpy is None else (numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator)
    return (torch.Generator, random.Random, *own)


def _parts(value: object) -> Iterator[object]:
    """Yield what an object holds: items, attributes, and the variables of other functions that it uses."""
    if isinstance(value, Mapping):
        yield from islice(cast("Mapping[Any, object]", value).values(), _MOST_ITEMS)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from islice(cast("Sequence[object]", value), _MOST_ITEMS)
    for name in ("__dict__", "__closure__", "__defaults__", "__self__", "func", "args", "keywords", "cell_contents"):
        try:
            yield getattr(cast(object, value), name, None)
        except Exception:  # noqa: BLE001 (an empty cell, or an attribute of others, which may raise anything)
            continue


def generator_state(generator: Any) -> Tensor | str:
    """Return the state of a generator of torch, numpy or Python, or of the global one of the other two modules.

    Example:
        >>> own = random.Random(3)
        >>> state, first = generator_state(own), own.random()
        >>> set_generator_state(own, state)
        >>> own.random() == first
        True
    """
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if hasattr(generator, "getstate"):
        state = generator.getstate()
    elif hasattr(generator, "get_state"):
        state = generator.get_state(legacy=False)
    else:
        state = getattr(generator, "bit_generator", generator).state
    return json.dumps(state, default=_array_to_json)


def set_generator_state(generator: Any, state: Tensor | str) -> None:
    """Set a generator to a state that `generator_state` returned.

    Raises:
        BadArgumentsError: If the state is that of another kind of generator.

    Example:
        >>> set_generator_state(torch.Generator(), "[]")
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: a data set must have the random generators that were saved, got a Generator
    """
    try:
        if isinstance(state, Tensor):
            generator.set_state(state.cpu())
        elif hasattr(generator, "getstate"):
            version, numbers, gauss = json.loads(state)
            generator.setstate((version, tuple(numbers), gauss))
        elif hasattr(generator, "set_state"):
            generator.set_state(json.loads(state, object_hook=_array_from_json))
        else:
            owner = getattr(generator, "bit_generator", generator)
            owner.state = json.loads(state, object_hook=_array_from_json)
    except (TypeError, ValueError, RuntimeError, RecursionError, KeyError, AttributeError) as error:
        kind = type(generator).__name__
        raise BadArgumentsError(f"a data set must have the random generators that were saved, got a {kind}") from error


def _array_to_json(value: Any) -> Any:
    return {"array": value.tolist(), "type": value.dtype.str} if hasattr(value, "dtype") and value.ndim else int(value)


def _array_from_json(form: dict[str, Any]) -> Any:
    return sys.modules["numpy"].array(form["array"], form["type"]) if form.keys() == {"array", "type"} else form
