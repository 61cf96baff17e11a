"""The choice of the device, and its memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from gankit.errors import DeviceError


def resolve_device(device: torch.device | str | None = None) -> torch.device:
    """Return the requested device, after a check that it works on this machine.

    Args:
        device: The device. None chooses CUDA if it is available, and the CPU otherwise.

    Raises:
        DeviceError: If torch does not know the device, or this machine does not have it.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
        >>> resolve_device("gpu")
        Traceback (most recent call last):
        gankit.errors.DeviceError: device must be one torch knows, such as 'cpu' or 'cuda', got 'gpu'
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        raise DeviceError(f"device must be one torch knows, such as 'cpu' or 'cuda', got {device!r}") from None
    try:
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device must be one this machine has, got {str(device)!r}: {reason}") from None
    return resolved


def memory_bytes(device: torch.device) -> int | None:
    """Return the size of the memory of a device, which for the CPU a container may limit, or None if it is not known.

    Example:
        >>> memory_bytes(torch.device("cpu")) > 2**20
        True
    """
    if device.type == "cuda":
        cuda: Any = torch.cuda
        return cuda.get_device_properties(device).total_memory
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return None
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # there is no limit
        return physical
