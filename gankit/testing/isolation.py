"""`isolated`: runs a check under fixed settings and restores the global random state."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch


class GlobalRandomState:
    """The state of every global random generator of this process: torch's, Python's and, if it is loaded, NumPy's.

    Example:
        >>> state = GlobalRandomState()
        >>> number = torch.rand(1)
        >>> state.has_changed()
        True
        >>> state.restore()
        >>> torch.equal(number, torch.rand(1))
        True
    """

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._python = random.getstate()
        self._numpy = _numpy_state()

    def has_changed(self) -> bool:
        """Return whether any of the generators has been used or seeded since."""
        return (
            not torch.equal(self._torch, torch.get_rng_state())
            or self._python != random.getstate()
            or str(self._numpy) != str(_numpy_state())
        )

    def restore(self) -> None:
        """Restore the state of all generators."""
        torch.set_rng_state(self._torch)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)


def _numpy_state() -> Any:
    # gankit does not need NumPy; only a caller that has imported it can have used its generator
    numpy = sys.modules.get("numpy")
    return None if numpy is None else numpy.random.get_state()


def changes_global_random_state(call: Callable[[], object]) -> bool:
    """Call a function; return whether it changed the global random state.

    Example:
        >>> changes_global_random_state(lambda: torch.rand(1)), changes_global_random_state(lambda: torch.ones(1))
        (True, False)
    """
    state = GlobalRandomState()
    call()
    return state.has_changed()


@contextmanager
def isolated() -> Generator[None]:
    """Run the block with gradients and without warnings, autocast or a default device; then restore random states.

    Example:
        >>> with torch.no_grad(), isolated():
        ...     torch.is_grad_enabled()
        True
    """
    state = GlobalRandomState()
    try:
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.device("cpu"),
        ):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the GPUs too
            yield
    finally:
        state.restore()
