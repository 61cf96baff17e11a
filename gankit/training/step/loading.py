"""A saved state is loaded whole or not at all, and only into a training like the one that it was saved from."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gankit.errors import BadArgumentsError, GankitError
from gankit.protocols import Stateful
from gankit.training.parallel.replicas import ELEMENTWISE

_SET_BY_THE_WAY_TO_RUN = {"foreach", "fused", "capturable", "differentiable"}
_CYCLED = {"momentum", "betas"}


def check_tensors(name: str, own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise unless the tensors of a saved network have the types and shapes of those with their names here.

    Names that only one of them has are left to the network, which may load states of earlier versions of itself.

    Raises:
        BadArgumentsError: for a tensor of another type or shape.

    Example:
        >>> import torch
        >>> check_tensors("generator", {"weight": torch.zeros(2)}, {"weight": torch.zeros(3)})
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: state must fit the generator, whose weight is torch.float32 (2,), got \
torch.float32 (3,)
    """
    for key, tensor in own.items():
        other = saved.get(key)
        if not isinstance(tensor, Tensor) or is_lazy(tensor) or not isinstance(other, Tensor):
            continue
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            raise BadArgumentsError(
                f"state must fit the {name}, whose {key} is {tensor.dtype} {tuple(tensor.shape)}, got "
                f"{other.dtype} {tuple(other.shape)}"
            )


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return the class of an optimizer and the numbers that it was constructed with, which its own state lacks.

    Example:
        >>> import torch
        >>> describe_optimizer(torch.optim.SGD([torch.zeros(1)], lr=0.1))["class"]
        'SGD'
    """
    defaults = {key: value for key, value in optimizer.defaults.items() if _is_plain(value)}
    return {"class": type(optimizer).__name__, "defaults": defaults}


def check_optimizer_state(
    name: str, optimizer: Optimizer, saved: Mapping[str, Any], about: Mapping[str, Any] | None
) -> None:
    """Raise unless the state of an optimizer was saved by one of the same class, with parameters of the same shapes.

    Args:
        name: The name of the optimizer, for the error.
        optimizer: The optimizer that the state is for.
        saved: Its saved state.
        about: What `describe_optimizer` returned when it was saved, or None if that is not known.

    Raises:
        BadArgumentsError: for the state of another optimizer.

    Example:
        >>> import torch
        >>> sgd, adam = torch.optim.SGD([torch.zeros(1)]), torch.optim.Adam([torch.zeros(1)])
        >>> check_optimizer_state("generator_optimizer", sgd, adam.state_dict(), describe_optimizer(adam))
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: state must be of a trainer whose generator_optimizer is SGD, as here, got Adam
    """
    kind = type(optimizer).__name__
    if about is not None and about["class"] != kind:
        raise BadArgumentsError(f"state must be of a trainer whose {name} is {kind}, as here, got {about['class']}")
    groups = [cast("list[Tensor]", group["params"]) for group in optimizer.param_groups]
    sizes, others = [len(group) for group in groups], [len(group["params"]) for group in saved["param_groups"]]
    if sizes != others:
        raise BadArgumentsError(
            f"state must be of a trainer whose {name} has groups of {sizes} parameters, as here, got {others}"
        )
    if kind not in ELEMENTWISE:
        return
    parameters = [one for group in groups for one in group]
    indices = [index for group in saved["param_groups"] for index in group["params"]]
    for parameter, index in zip(parameters, indices, strict=True):
        for key, moment in saved["state"].get(index, {}).items():
            if isinstance(moment, Tensor) and moment.ndim and moment.shape != parameter.shape:
                raise BadArgumentsError(
                    f"state must be of a trainer whose {name} updates its parameters in the same order as here, got "
                    f"{key} {tuple(moment.shape)} for a parameter {tuple(parameter.shape)}"
                )


def replaced_settings(
    name: str, optimizer: Optimizer, saved: Mapping[str, Any], about: Mapping[str, Any] | None
) -> list[str]:
    """Return which of an optimizer's numbers will be replaced by those of a state although they were set here.

    A learning rate that a schedule changes is compared by the value that the schedule started from. A number counts as
    set here if it is not the one that the saved optimizer was constructed with.

    Example:
        >>> import torch
        >>> first, second = (torch.optim.SGD([torch.zeros(1)], lr=lr) for lr in (0.1, 0.2))
        >>> replaced_settings("generator_optimizer", second, first.state_dict(), describe_optimizer(first))
        ["generator_optimizer's lr 0.2 by 0.1"]
    """
    if about is None:
        return []
    found: list[str] = []
    for group, other in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        # OneCycleLR changes the momentum too
        cycled: set[str] = _CYCLED if "max_momentum" in other else set()
        for key in optimizer.defaults:
            if key not in other or key in cycled or key in _SET_BY_THE_WAY_TO_RUN:
                continue
            first = f"initial_{key}"
            own, theirs = group.get(first, group[key]), other.get(first, other[key])
            is_set_here = key not in about["defaults"] or not _same(group[key], about["defaults"][key])
            if is_set_here and not _same(own, theirs):
                found.append(f"{name}'s {key} {_shown(group[key])} by {_shown(other[key])}")
    return list(dict.fromkeys(found))


@contextmanager
def whole_or_not_at_all(parts: Iterable[Stateful], optimizers: Iterable[Optimizer]) -> Generator[None]:
    """Put back the states of parts and optimizers if an error ends a `with` block in which states are loaded.

    Raises:
        BadArgumentsError: for an error that is not gankit's own, which any state may raise in the part that loads it.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(1, 1)
        >>> with whole_or_not_at_all([layer], []):
        ...     layer.load_state_dict({"weight": torch.zeros(1, 1)})  # without a bias
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: state must fit this trainer: Error(s) in loading state_dict for Linear: \
Missing key(s) in state_dict: "bias".
    """
    kept = [(part, on_host(part.state_dict())) for part in parts]
    groups = [(optimizer, optimizer.state, optimizer.param_groups) for optimizer in optimizers]
    try:
        yield
    except Exception as error:
        for part, state in kept:
            part.load_state_dict(state)
        for optimizer, state, param_groups in groups:
            optimizer.state, optimizer.param_groups = state, param_groups
        if isinstance(error, GankitError):
            raise
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it has no entry {reason}"
        raise BadArgumentsError(f"state must fit this trainer: {reason}") from error


def load_optimizer(
    name: str, optimizer: Optimizer, saved: Mapping[str, Any], about: Mapping[str, Any] | None
) -> list[str]:
    """Load the state of an optimizer, which afterwards shares no memory with it.

    Returns:
        What `replaced_settings` returns.

    Raises:
        BadArgumentsError: for the state of another optimizer.

    Example:
        >>> import torch
        >>> adam, sgd = torch.optim.Adam([torch.zeros(1)]), torch.optim.SGD([torch.zeros(1)])
        >>> load_optimizer("generator_optimizer", adam, sgd.state_dict(), None)
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: state must fit the generator_optimizer, Adam, got groups without betas, eps
    """
    check_optimizer_state(name, optimizer, saved, about)
    replaced = replaced_settings(name, optimizer, saved, about)
    settings = set(optimizer.defaults)
    optimizer.load_state_dict(copy.deepcopy(dict(saved)))  # torch would keep the tensors of the state themselves
    for added in optimizer.defaults.keys() - settings:  # torch adds "differentiable", which only its own classes have
        del optimizer.defaults[added]
    for group in optimizer.param_groups:
        if missing := optimizer.defaults.keys() - group.keys():
            raise BadArgumentsError(
                f"state must fit the {name}, {type(optimizer).__name__}, got groups without "
                f"{', '.join(sorted(missing))}"
            )
    return replaced


def on_host(value: Any) -> Any:
    """Return a copy of a state whose tensors are on the CPU.

    Example:
        >>> import torch
        >>> on_host({"weight": torch.zeros(2), "step": 3})
        {'weight': tensor([0., 0.]), 'step': 3}
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        made = copy.copy(cast("dict[Any, Any]", value))  # an OrderedDict keeps the versions of a module's layers
        made.update([(key, on_host(one)) for key, one in made.items()])
        return made
    if type(value) in (list, tuple):
        return type(value)(on_host(one) for one in value)
    return copy.deepcopy(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, cast("Sequence[Any]", value)))
    return value is None or type(value) in (bool, int, float, str)


def _numbers(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = cast(Any, value).tolist()
    if isinstance(value, (list, tuple)):
        many = [_numbers(one) for one in cast("Sequence[Any]", value)]
        return many[0] if len(many) == 1 else many
    return value


def _same(first: Any, second: Any) -> bool:
    first, second = _numbers(first), _numbers(second)
    if isinstance(first, list) and isinstance(second, list):
        pair = cast("list[Any]", first), cast("list[Any]", second)
        return len(pair[0]) == len(pair[1]) and all(map(_same, *pair))
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-6)  # a rate on the device has float32's precision
    return bool(first == second)


def _shown(value: Any) -> str:
    value = _numbers(value)
    if isinstance(value, list):
        return f"({', '.join(map(_shown, cast('list[Any]', value)))})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
