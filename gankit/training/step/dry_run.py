"""A run of a network on fake tensors, which takes no memory, draws no random numbers, and changes nothing."""

from __future__ import annotations

import functools
import logging
import sys
import types
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

_ATOMS = (Tensor, str, bytes, int, float, complex, type(None), type, types.ModuleType)
"""What holds nothing that a forward pass could change."""

_OF_TRAINING = ("gankit.training", "gankit.data", "torch.utils.data", "torch.optim", "torch._dynamo")
"""Where objects come from that a network may know, but that are no part of it, and that other threads may be using."""


def dry_run(mode: FakeTensorMode, network: nn.Module, *arguments: object) -> Any:
    """Return what the network answers to fake tensors, and leave every attribute of every module as it was.

    What a forward pass stores in modules, in their hooks, or in containers and objects that these hold, is put back,
    also after an error. TorchScript keeps its attributes elsewhere, so it must not be in the network.

    Args:
        mode: The mode that the fake tensors belong to.
        network: The network.
        *arguments: What the network is called with.

    Example:
        >>> mode = FakeTensorMode()
        >>> with mode:
        ...     inputs = torch.empty(5, 2)
        >>> dry_run(mode, nn.Linear(2, 3), inputs).shape
        torch.Size([5, 3])
    """
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # it would log the traceback of an error
    with _faked(mode, network), _uncompiled(network), _quiet(logger), mode, torch.no_grad():
        return network(*arguments)


@contextmanager
def unchanged(*networks: nn.Module) -> Generator[list[Any]]:
    """Put back, at the end of a `with` block, every attribute of every module and what these hold.

    The values of tensors are not copied. The block gets the containers that are put back.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with unchanged(layer):
        ...     layer.calls, layer.weight = 1, None
        >>> hasattr(layer, "calls"), layer.weight is None
        (False, False)
    """
    containers = _containers(networks)
    undo = [_undo(one) for one in containers]
    try:
        yield containers
    finally:
        for put_back in undo:
            put_back()


@contextmanager
def _faked(mode: FakeTensorMode, network: nn.Module) -> Generator[None]:
    """Put fakes in the place of a network's tensors for the duration of a `with` block, and then put all back.

    `torch.func.functional_call` does so for parameters and buffers only. It leaves fakes in a module that has two
    names, and in what hooks such as those of the old `spectral_norm` have computed.
    """
    with unchanged(network) as containers:
        for one in containers:
            _replace_tensors(one, mode.from_tensor)
        yield


def _containers(root: object) -> list[Any]:
    """Return every dictionary, list, set and deque that can be reached from an object, each once."""
    found: list[Any] = []
    seen: dict[int, object] = {}  # the objects are kept, so that no id is used again
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if _is_container(one):
            found.append(one)
        waiting += [other for other in _held(one) if not isinstance(other, _ATOMS)]
    return found


def _held(one: object) -> Iterable[object]:
    """Return what an object holds: items, attributes, and what a function has enclosed."""
    if isinstance(one, dict):
        return list(cast("dict[object, object]", one).values())
    if isinstance(one, (list, tuple, set, frozenset, deque)):
        return cast("Iterable[object]", one)
    if isinstance(one, functools.partial):
        partial = cast("functools.partial[object]", one)
        return [partial.func, partial.args, partial.keywords]
    if isinstance(one, types.MethodType):
        return [one.__self__]
    if isinstance(one, types.FunctionType):
        return [cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)]
    home = type(one).__module__
    # loggers, threads and the like belong to the whole program
    is_own = home.partition(".")[0] not in sys.stdlib_module_names and not home.startswith(_OF_TRAINING)
    return [vars(one)] if hasattr(one, "__dict__") and (is_own or isinstance(one, nn.Module)) else []


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # the variable has no value yet
        return False
    return True


def _replace_tensors(container: Any, fake_of: Callable[[Tensor], Tensor]) -> None:
    if isinstance(container, set):
        return
    keys: list[Any] = list(container) if _has_keys(container) else list(range(len(container)))
    for key in keys:
        value = container[key]
        if isinstance(value, Tensor):
            # without its graph, which torch would warn about where a hook has computed a weight
            container[key] = fake_of(value.detach() if value.grad_fn is not None else value)


def _undo(container: Any) -> Callable[[], None]:
    """Return a function that gives a container its present items back, if they have changed."""
    before: Sequence[Any] = list(container.items() if _has_keys(container) else container)
    put = container.update if hasattr(container, "update") else container.extend
    identity = _identity(container)

    def put_back() -> None:
        if _identity(container) != identity:
            container.clear()
            put(before)

    return put_back


def _identity(container: Any) -> list[int]:
    """Return the identities of the items of a container, to which `_undo` keeps references."""
    items: Iterable[Any] = (*container, *container.values()) if _has_keys(container) else container
    return [id(one) for one in items]


def _is_container(one: object) -> bool:
    return isinstance(one, (dict, list, set, deque))


def _has_keys(container: object) -> bool:
    return isinstance(container, dict)


@contextmanager
def _quiet(logger: logging.Logger) -> Generator[None]:
    """Keep a logger from logging what is reported in one sentence."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _uncompiled(network: nn.Module) -> AbstractContextManager[Any]:
    """Run compiled modules operation by operation, so that nothing is compiled for fake tensors."""
    compiled = ("_orig_mod", "_compiled_call_impl")  # of torch.compile(module), and of module.compile()
    if any(getattr(layer, name, None) is not None for layer in network.modules() for name in compiled):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()
