"""A method that is looked up at each call, without keeping its object alive."""

from __future__ import annotations

import weakref
from typing import Any


class MethodOf:
    """A function that calls an object's method of a name, whichever that is at the time of the call.

    A subclass or an assignment may therefore replace the method. The object is not kept alive, so that it may hold
    this function without being part of a reference cycle. A copy of the object, such as `copy.deepcopy` or `pickle`
    makes, calls the method of the copy.

    Args:
        owner: The object.
        name: The name of the method.

    Example:
        >>> class Counter:
        ...     def next(self):
        ...         return 1
        >>> counter = Counter()
        >>> call = MethodOf(counter, "next")
        >>> counter.next = lambda: 2
        >>> call()
        2
    """

    def __init__(self, owner: object, name: str) -> None:
        self._reference = weakref.ref(owner)
        self._name = name

    @property
    def owner(self) -> object:
        """The object, or None if it is gone."""
        return self._reference()

    def __call__(self, *arguments: Any) -> Any:
        """Call the method with these arguments."""
        return getattr(self.owner, self._name)(*arguments)

    def __reduce__(self) -> tuple[type[MethodOf], tuple[object, str]]:
        return MethodOf, (self.owner, self._name)
