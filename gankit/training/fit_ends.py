"""What the callbacks do before the first and after the last step of a `fit`, if they have a method for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from gankit.protocols import BeginsFit, EndsFit


def begin_fit(callbacks: Iterable[object], trainer: object) -> None:
    """Call `begin_fit` of each callback that has it."""
    for one in callbacks:
        if isinstance(one, BeginsFit):
            cast("BeginsFit[Any]", one).begin_fit(trainer)


def end_fit(callbacks: Iterable[object], trainer: object) -> None:
    """Call `end_fit` of each callback that has it.

    Example:
        >>> class Says:
        ...     def end_fit(self, trainer):
        ...         print("the end")
        >>> end_fit([Says(), print], trainer=None)
        the end
    """
    for one in callbacks:
        if isinstance(one, EndsFit):
            cast("EndsFit[Any]", one).end_fit(trainer)
