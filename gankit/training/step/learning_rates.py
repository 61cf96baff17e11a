"""The learning rates of optimizers. Only this file knows whether a rate is a number or a tensor on the device.

A captured step reads its rates from tensors, so that they can change between replays. Everywhere else they are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer


def decay(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set each learning rate to its initial value times `factor`.

    The initial value is stored as `initial_lr`, the name that torch's schedulers use and that an optimizer's state
    includes.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
        >>> decay([optimizer], 0.5)
        >>> optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["initial_lr"]
        (0.1, 0.2)
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate: Any = group["lr"]
            initial: Any = group.setdefault("initial_lr", rate.clone() if isinstance(rate, Tensor) else rate)
            if isinstance(rate, Tensor):
                rate.copy_(initial * factor)
            else:
                group["lr"] = float(initial) * factor


def scale(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Multiply each learning rate, and the initial value that a schedule started from.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
        >>> scale([optimizer], 0.5)
        >>> optimizer.param_groups[0]["lr"]
        0.1
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name in group.keys() & {"lr", "initial_lr"}:
                group[name] = group[name] * factor


def put_on_device(optimizer: Optimizer, device: torch.device) -> None:
    """Make an optimizer read its learning rate and count its steps on the device, if its class can (`capturable`).

    Example:
        >>> adam = torch.optim.Adam([torch.zeros(1)], lr=0.1)
        >>> put_on_device(adam, torch.device("cpu"))
        >>> adam.param_groups[0]["capturable"], adam.param_groups[0]["lr"]
        (True, tensor(0.1000))
    """
    for group in optimizer.param_groups:
        if "capturable" not in group:
            continue
        group["capturable"] = True
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        for parameter in group["params"]:
            state = cast("dict[str, Any]", optimizer.state.get(parameter, {}))
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device, torch.float32)


def put_on_host(optimizer: Optimizer) -> None:
    """Undo `put_on_device`, for an optimizer on the CPU whose state was saved by a captured training.

    Example:
        >>> adam = torch.optim.Adam([torch.zeros(1)], lr=torch.tensor(0.5), capturable=True)
        >>> put_on_host(adam)
        >>> adam.param_groups[0]["capturable"], adam.param_groups[0]["lr"]
        (False, 0.5)
    """
    for group in optimizer.param_groups:
        if group.get("capturable"):  # which torch refuses for parameters on the CPU
            group["capturable"] = False
            group["lr"] = float(group["lr"])


def constants(optimizer: Optimizer) -> tuple[float | None, ...]:
    """Return the learning rates that are numbers, which a captured step contains as constants; None for tensors.

    Example:
        >>> constants(torch.optim.SGD([torch.zeros(1)], lr=0.2))
        (0.2,)
    """
    return tuple(group["lr"] if isinstance(group["lr"], float) else None for group in optimizer.param_groups)
