"""The choice of the device."""

from __future__ import annotations

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
