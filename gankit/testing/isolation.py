"""`isolated`: checks run under settings of their own and restore the global random state."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


def global_random_state() -> list[Any]:
    """Return the state of every global random generator of this process: torch's, Python's, NumPy's if loaded.

    Example:
        >>> before = global_random_state()
        >>> same_random_state(before, global_random_state())
        True
    """
    numpy: Any = sys.modules.get("numpy")
    return [torch.get_rng_state(), random.getstate(), None if numpy is None else numpy.random.get_state()]


def same_random_state(before: list[Any], after: list[Any]) -> bool:
    """Return whether two random states are equal.

    Example:
        >>> before = global_random_state()
        >>> with isolated():
        ...     _ = torch.rand(1)
        ...     same_random_state(before, global_random_state())
        False
        >>> same_random_state(before, global_random_state())
        True
    """
    return torch.equal(before[0], after[0]) and before[1] == after[1] and str(before[2]) == str(after[2])


@contextmanager
def isolated() -> Generator[None]:
    """Enable gradients, disable warnings, autocast and the default device, and restore the random states at the end.

    Example:
        >>> with torch.no_grad(), isolated():
        ...     torch.is_grad_enabled()
        True
    """
    torch_state, python_state, numpy_state = global_random_state()
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
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy_state is not None:
            sys.modules["numpy"].random.set_state(numpy_state)
