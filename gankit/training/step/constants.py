"""The numbers in the attributes of networks and parts, which a compiled or captured step holds as constants."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from gankit.errors import CannotCaptureError

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_OF_MODULES = {*vars(nn.Module()), "_reversed_padding_repeated_twice"} - {"training"}  # torch's own


class Same:
    """A key that is equal only to the key of the same object, and keeps the object alive.

    Example:
        >>> one, other = [], []
        >>> Same(one) == Same(one), Same(one) == Same(other)
        (True, False)
    """

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


def description(value: object, depth: int = 1) -> Hashable:
    """Return a key that is equal for values of equal structure and numbers.

    Numbers, texts and containers are compared by their values, and objects by their class and their attributes. Where
    that ends, at tensors, modules, functions and objects deeper than `depth`, only the same object is equal.

    Args:
        value: The value.
        depth: How many levels of objects are compared by their attributes.

    Example:
        >>> from gankit.losses import NonSaturating
        >>> one, other = NonSaturating(label_smoothing=0.1), NonSaturating(label_smoothing=0.2)
        >>> description(one) == description(NonSaturating(label_smoothing=0.1)), description(one) == description(other)
        (True, False)
    """
    if type(value) in _PLAIN:
        return type(value), value if value == value else "nan"
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return type(items), tuple([description(one, depth) for one in items])
    if isinstance(value, dict):
        items = cast("Mapping[object, object]", value).items()
        return dict, tuple([(description(key, depth), description(own, depth)) for key, own in items])
    if isinstance(value, (Tensor, nn.Module, types.ModuleType, *_FUNCTIONS)) or depth < 0:
        return Same(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return description(cast(Any, value).item(), depth)
    attributes = _attributes(value)
    if attributes is None:
        return Same(value)
    return type(value), tuple([(name, description(own, depth - 1)) for name, own in attributes.items()])


class Constants:
    """The numbers in the attributes of objects, counted as they change.

    Watched are the numbers, texts, containers, functions and plain objects among the attributes, of each submodule too,
    but no tensors: parameters and buffers are inputs of a compiled half, and lie at fixed addresses in a captured step.

    Attributes:
        changed: The attribute that was the last to change, in words.
        newest: The number that was returned last.

    Example:
        >>> layer, constants = nn.Dropout(0.5), Constants()
        >>> constants.number([layer]), constants.number([layer])
        (0, 0)
        >>> layer.p = 0.3
        >>> constants.number([layer]), constants.changed
        (1, "Dropout's 'p'")
    """

    def __init__(self) -> None:
        self.changed: str = "nothing"
        self._parts: list[object] = []
        self._kept: list[object] = []  # so that no other object gets the id of one of them
        self._owner_ids: list[int] = []
        self._more: Hashable = None
        self._watched: list[dict[str, Any]] = []
        self._sizes: list[int] = []
        self._places: list[tuple[Callable[[str], object], str]] = []
        self._value_ids: list[int] = []
        self._found: dict[tuple[int, str], Hashable] = {}  # by the number of the dictionary and the name in it
        self._mutable: list[tuple[int, str]] = []  # what may change and stay the same object
        self._numbers: dict[Hashable, int] = {}
        self.newest: int = 0

    def __reduce__(self) -> tuple[type[Constants], tuple[()]]:
        return Constants, ()  # a copy of a trainer watches its own networks

    def number(self, owners: Sequence[object], more: Hashable = None) -> int:
        """Return the number of the present values, which is the same whenever the values are.

        Args:
            owners: The objects.
            more: A further key, such as that of a loss that is made anew in each step.
        """
        if not self._is_known(owners, more):
            before = self._found
            self._look_at(owners, more)
            differing = [key for key, one in self._found.items() if before.get(key, self) != one]
            if before and differing:
                index, name = differing[0]
                self.changed = f"{type(self._parts[index]).__name__}'s {name!r}" if name else "the loss or the trainer"
            self.newest = self._numbers.setdefault(tuple(self._found.items()), len(self._numbers))
        return self.newest

    def _is_known(self, owners: Sequence[object], more: Hashable) -> bool:
        # in each step; it looks at objects, not at values, because that is faster
        return (
            [*map(id, owners)] == self._owner_ids
            and [*map(len, self._watched)] == self._sizes
            and [id(get(name)) for get, name in self._places] == self._value_ids
            and more == self._more
            and all(self._found[key] == description(self._watched[key[0]][key[1]]) for key in self._mutable)
        )

    def _look_at(self, owners: Sequence[object], more: Hashable) -> None:
        self._kept, self._owner_ids, self._more = list(owners), [*map(id, owners)], more
        self._parts = [part for owner in owners for part in _parts(owner)]
        self._watched = [getattr(part, "__dict__", {}) for part in self._parts]
        self._sizes = [*map(len, self._watched)]
        self._found, self._places, self._value_ids, self._mutable = {(-1, ""): more}, [], [], []
        for index, own in enumerate(self._watched):
            is_module = isinstance(self._parts[index], nn.Module)
            for name, value in own.items():
                if (is_module and name in _OF_MODULES) or isinstance(value, (Tensor, nn.Module)):
                    continue
                self._places.append((own.get, name))
                self._value_ids.append(id(value))
                self._kept.append(value)
                self._found[index, name] = description(value)
                if not _is_immutable(value):
                    self._mutable.append((index, name))


@contextmanager
def counts_refused(owners: Iterable[object], error: type[CannotCaptureError]) -> Generator[None]:
    """Restore the numbers in the attributes of objects at the end of a `with` block, and refuse one that has changed.

    A trace or a capture runs Python code, and what is made of it does not, so that a count would stand still.

    Raises:
        CannotCaptureError: or the given class derived from it, for an attribute that has changed.
    """
    parts = [part for owner in owners for part in _parts(owner)]
    before = [{k: v for k, v in getattr(part, "__dict__", {}).items() if type(v) in _PLAIN} for part in parts]
    changed: list[str] = []
    try:
        yield
    finally:
        for part, values in zip(parts, before, strict=True):
            own = getattr(part, "__dict__", {})
            for name, value in values.items():
                if name in own and own[name] is not value and own[name] != value:
                    own[name] = value
                    changed.append(f"{type(part).__name__} changes its attribute {name!r}, which is no buffer")
    if changed:
        raise error(changed[0])


def _is_immutable(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_immutable(one) for one in cast("tuple[object, ...]", value))
    return type(value) in _PLAIN or isinstance(value, _FUNCTIONS)


def plain_values(owner: object) -> Hashable:
    """Return the numbers and texts among the attributes of an object.

    Example:
        >>> plain_values(types.SimpleNamespace(weight=0.5, name="own", layers=[]))
        (('weight', 0.5), ('name', 'own'))
    """
    own = cast("dict[str, Any]", getattr(owner, "__dict__", {}))
    return tuple([(name, value) for name, value in own.items() if type(value) in _PLAIN])


def _parts(owner: object) -> list[object]:
    return [*owner.modules()] if isinstance(owner, nn.Module) else [owner]


def _attributes(value: object) -> dict[str, Any] | None:
    """Return the attributes of an object, or None for one that keeps what it holds elsewhere."""
    slots = [name for one in type(value).__mro__ for name in vars(one).get("__slots__", ())]
    if slots:
        return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    return getattr(value, "__dict__", None)
