"""Which device to use."""

from __future__ import annotations

import torch

from gankit.errors import DeviceError


def resolve_device(device: torch.device | str | None = None) -> torch.device:
    """Return a device that works here: the one asked for, or by default CUDA where there is one, else the CPU.

    Raises:
        DeviceError: for a device torch does not know, or this machine does not have.

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
