"""A device that is returned works; any other is refused."""

from __future__ import annotations

import pytest
import torch

from gankit.devices import resolve_device
from gankit.errors import DeviceError

ABSENT = [
    device
    for device, there in {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
        "vulkan": False,
    }.items()
    if not there
]


def test_the_default_is_cuda_where_there_is_one_and_else_the_cpu():
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("there", [True, False])
def test_the_default_asks_torch_for_cuda(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device(None) == torch.device("cuda" if there else "cpu")


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("cpu")], ids=repr)
def test_a_device_is_taken_by_name_and_as_it_is(device):
    resolved = resolve_device(device)
    assert resolved == torch.device(device)
    assert torch.zeros(2, device=resolved).device == resolved


@pytest.mark.parametrize("device", ["gpu", "", "cpu:-1", "cuda:x", 2.5, [0]], ids=repr)
def test_what_is_no_device_is_refused(device):
    with pytest.raises(DeviceError) as refusal:
        resolve_device(device)
    assert str(refusal.value) == f"device must be one torch knows, such as 'cpu' or 'cuda', got {device!r}"


@pytest.mark.parametrize("device", [*ABSENT, "cuda:99", torch.device("cuda", 99)], ids=repr)
def test_a_device_this_machine_lacks_is_refused_on_one_line_with_the_reason(device):
    with pytest.raises(DeviceError) as refusal:
        resolve_device(device)
    message = str(refusal.value)
    start = f"device must be one this machine has, got {str(device)!r}: "
    assert message.startswith(start)
    assert len(message) > len(start)
    assert "\n" not in message
