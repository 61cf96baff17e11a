"""Copies of a state that training does not change."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError
from gankit.training.saving.tree import DEEPEST, PLAIN, can_store


class Snapshot:
    """A copy of a state, which training does not change. From a CUDA device, it is copied while training continues.

    Args:
        state: Tensors, numbers and texts in dictionaries, lists and tuples.

    Raises:
        BadArgumentsError: For anything else in it, which could not be stored without running code to load it; for a
            tensor that safetensors cannot store, such as a sparse or a quantized one; or for deeper nesting than can
            be read.

    Example:
        >>> weight = torch.zeros(1)
        >>> snapshot = Snapshot({"weight": weight, "step": 3})
        >>> _ = weight.fill_(1.0)
        >>> snapshot.ready()
        {'weight': tensor([0.]), 'step': 3}
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._events: dict[torch.device, torch.cuda.Event] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._state: dict[str, Any] = {name: self._copied(value, name, 1) for name, value in state.items()}
        for device, stream in self._streams.items():
            self._events[device] = torch.cuda.Event()
            self._events[device].record(stream)

    def ready(self) -> dict[str, Any]:
        """Return the copy, on the host, as soon as it is complete."""
        for event in self._events.values():
            event.synchronize()
        return self._state

    def _copied(self, value: Any, where: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise BadArgumentsError(
                f"a state to save must be nested at most {DEEPEST} levels deep, got more in {where[:100]}"
            )
        if isinstance(value, Tensor):
            if not can_store(value):
                raise BadArgumentsError(
                    f"a state to save must hold tensors with memory, of a dtype that can be stored, got {value.dtype} "
                    f"with the layout {value.layout} on {value.device} in {where}"
                )
            return self._on_host(value.detach())
        if value is None or type(value) in PLAIN:
            return value
        if isinstance(value, Mapping):
            given = cast("Mapping[Any, Any]", value)
            made: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
            for key, one in given.items():
                if key is not None and type(key) not in PLAIN:
                    raise BadArgumentsError(_not_plain(f"a key of {where}", key))
                made[key] = self._copied(one, f"{where}.{key}", depth + 1)
            if hasattr(given, "_metadata"):  # of a module's state_dict: the versions of its layers' states
                cast(Any, made)._metadata = copy.deepcopy(cast(Any, given)._metadata)
            return made
        if type(value) in (list, tuple):
            given = enumerate(cast("Iterable[Any]", value))
            copies = [self._copied(one, f"{where}[{i}]", depth + 1) for i, one in given]
            return tuple(copies) if isinstance(value, tuple) else copies
        raise BadArgumentsError(_not_plain(where, value))

    def _on_host(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cuda":
            return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()
        if tensor.device not in self._streams:
            self._streams[tensor.device] = torch.cuda.Stream(tensor.device)
        stream = self._streams[tensor.device]
        # copied on the device first, in the order of the training's stream, and from there on a stream of its own
        own = tensor.clone()
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        own.record_stream(stream)
        host = torch.empty_like(own, device="cpu", pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(own, non_blocking=True)
        return host


def _not_plain(where: str, value: object) -> str:
    return (
        f"a state to save must hold tensors, numbers, texts, lists, tuples and dicts, got {type(value).__name__} in "
        f"{where}"
    )
