"""States as JSON and tensors: nested containers in one form that brings every value back exactly.

In the JSON, null, booleans, integers, finite floats, texts and lists stand for themselves. Everything else is an object
whose first name says what it is:

| object | value |
|---|---|
| `{"dict": {name: node}}` | a dictionary whose keys are texts |
| `{"items": [[node, node], ...]}` | a dictionary with other keys |
| `{"ordered": [[node, node], ...], "metadata": node}` | an `OrderedDict`, with the metadata of a module's state |
| `{"tuple": [node, ...]}` | a tuple |
| `{"tensor": name}`, with `"stride"` or `"bytes_of"` where needed | a tensor, stored under this name |
| `{"float": text}` | NaN or infinity |
| `{"complex": [node, node]}`, `{"bytes": base64}` | a complex number, bytes |
| `{"dtype": name}`, `{"device": name}`, `{"size": [int, ...]}` | torch's types, devices and sizes |
"""

from __future__ import annotations

import base64
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
"""The types of values that a state holds apart from tensors, dictionaries, lists and tuples."""

Node: TypeAlias = Any
"""What JSON can hold: None, numbers, texts, lists and dictionaries."""

DEEPEST = 100
"""The largest number of containers that a value may be inside of."""

_STORED = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}
"""The types of tensors that every supported version of safetensors can store."""
_AS_BYTES = {
    str(one).removeprefix("torch."): one
    for one in (
        *(torch.complex128, torch.complex64, torch.complex32, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
        *(torch.uint64, torch.uint32, torch.uint16),
    )
}
"""Further types of tensors by name. They are stored as bytes, which add a last dimension."""
_DTYPES = {str(one).removeprefix("torch."): one for one in vars(torch).values() if isinstance(one, torch.dtype)}


class TreeError(ValueError):
    """What is wrong with a stored state, in words."""


def can_store(tensor: Tensor) -> bool:
    """Return whether `flatten` can turn a tensor into one that safetensors can store.

    Example:
        >>> can_store(torch.zeros(2)), can_store(torch.zeros(2).to_sparse()), can_store(torch.zeros(2, device="meta"))
        (True, False, False)
    """
    is_known = tensor.dtype in _STORED or tensor.dtype in _AS_BYTES.values()
    return is_known and tensor.layout == torch.strided and not tensor.is_meta


def flatten(state: Any) -> tuple[Node, dict[str, Tensor]]:
    """Return a state as JSON, and its tensors by name.

    Args:
        state: Tensors on the CPU and values of the types in `PLAIN`, in dictionaries, lists and tuples.

    Returns:
        The JSON, and the tensors, which are contiguous and named after their place.

    Example:
        >>> node, tensors = flatten({"weight": torch.zeros(2), 3: (1, float("inf"))})
        >>> node["items"][1]
        [3, {'tuple': [1, {'float': 'inf'}]}]
        >>> list(tensors)
        ['weight']
    """
    tensors: dict[str, Tensor] = {}
    node = _node(state, (), tensors)
    seen: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        if place in seen:  # safetensors refuses tensors that share memory
            tensors[name] = tensor.clone()
        seen.add(place)
    return node, tensors


def _node(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Node:
    kind = cast("type[Any]", type(value))
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor):
        return _tensor_node(value, path, tensors)
    if isinstance(value, Mapping):
        return _mapping_node(cast("Mapping[Any, Any]", value), path, tensors)
    if kind in (list, tuple):
        nodes = [_node(one, (*path, str(index)), tensors) for index, one in enumerate(value)]
        return nodes if kind is list else {"tuple": nodes}
    if kind is complex:
        return {"complex": [_node(value.real, path, tensors), _node(value.imag, path, tensors)]}
    if kind is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if kind is torch.dtype:
        return {"dtype": str(value).removeprefix("torch.")}
    if kind is torch.device:
        return {"device": str(value)}
    return {"size": list(value)}


def _mapping_node(mapping: Mapping[Any, Any], path: tuple[str, ...], tensors: dict[str, Tensor]) -> Node:
    named = {key: _node(value, (*path, str(key)), tensors) for key, value in mapping.items()}
    items = [[_node(key, path, tensors), node] for key, node in named.items()]
    if isinstance(mapping, OrderedDict):
        metadata = getattr(cast(Any, mapping), "_metadata", None)
        return {"ordered": items, "metadata": _node(metadata, (*path, "_metadata"), tensors)}
    return {"dict": named} if all(type(key) is str for key in named) else {"items": items}


def _tensor_node(tensor: Tensor, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Node:
    # a key may hold half of a surrogate pair, which no file can
    name = ".".join(path).encode(errors="backslashreplace").decode()
    while name in tensors:  # such as ("a.b",) and ("a", "b")
        name += "'"
    node: dict[str, Any] = {"tensor": name}
    tensor = tensor.resolve_conj().resolve_neg()
    if not tensor.is_contiguous():
        node["stride"] = list(tensor.stride())  # optimizers may depend on the order in memory
        tensor = tensor.contiguous()
    if tensor.dtype not in _STORED:
        node["bytes_of"] = str(tensor.dtype).removeprefix("torch.")
        tensor = tensor.unsqueeze(-1).view(torch.uint8)
    tensors[name] = tensor
    return node


def unflatten(node: Node, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that `flatten` was given.

    Args:
        node: The JSON.
        tensors: The tensors by name. Each must be used exactly once.

    Raises:
        TreeError: For JSON that `flatten` does not produce, or other tensors than it names.

    Example:
        >>> unflatten(*flatten({"weight": torch.zeros(2), 3: (1, float("inf"))}))
        {'weight': tensor([0., 0.]), 3: (1, inf)}
    """
    waiting = dict(tensors)
    value = _value(node, waiting, 0)
    if waiting:
        raise TreeError(f"it holds {len(waiting)} tensors that the JSON does not name, such as {min(waiting)[:100]!r}")
    return value


def _value(node: Node, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > DEEPEST:
        raise TreeError("it is nested too deeply")
    if node is None or type(node) in (bool, int, str, float):
        return node
    if type(node) is list:
        return [_value(one, tensors, depth + 1) for one in cast("list[Node]", node)]
    if type(node) is not dict or not node:
        raise TreeError("it holds a value of an unknown form")
    form = cast("dict[str, Node]", node)
    kind = next(iter(form))
    read = _READERS.get(kind)
    if read is None or form.keys() - {kind} - _FURTHER_NAMES.get(kind, set()):
        raise TreeError(f"it holds a value of the unknown kind {kind[:100]!r}")
    return read(form, tensors, depth)


def _list_of(node: Node) -> list[Node]:
    if type(node) is not list:
        raise TreeError("it holds a value of an unknown form")
    return cast("list[Node]", node)


def _read_dict(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> dict[Any, Any]:
    if type(form["dict"]) is not dict:
        raise TreeError("it holds a value of an unknown form")
    named = cast("dict[str, Node]", form["dict"])
    return {name: _value(one, tensors, depth + 1) for name, one in named.items()}


def _read_items(node: Node, made: dict[Any, Any], tensors: dict[str, Tensor], depth: int) -> dict[Any, Any]:
    for pair in map(_list_of, _list_of(node)):
        if len(pair) != 2:
            raise TreeError("it holds a value of an unknown form")
        key = _value(pair[0], tensors, depth + 1)
        if (key is not None and type(key) not in PLAIN) or key in made:
            raise TreeError("it holds a dictionary with a key of a wrong type, or with one key twice")
        made[key] = _value(pair[1], tensors, depth + 1)
    return made


def _read_ordered(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> OrderedDict[Any, Any]:
    made = cast("OrderedDict[Any, Any]", _read_items(form["ordered"], OrderedDict(), tensors, depth))
    metadata = _value(form.get("metadata"), tensors, depth + 1)
    if metadata is not None:
        cast(Any, made)._metadata = metadata
    return made


def _read_tensor(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> Tensor:
    name = form["tensor"]
    if type(name) is not str or name not in tensors:
        raise TreeError(f"it lacks the tensor {str(name)[:100]!r}, or names it twice")
    tensor = tensors.pop(name)
    if "bytes_of" in form:
        dtype = _AS_BYTES.get(form["bytes_of"]) if type(form["bytes_of"]) is str else None
        if dtype is None or tensor.dtype != torch.uint8 or tensor.shape[-1:] != (dtype.itemsize,):
            raise TreeError(f"it holds a tensor {name[:100]!r} whose bytes are not those of its type")
        tensor = tensor.view(dtype).squeeze(-1)
    if "stride" in form:
        stride = _list_of(form["stride"])
        if not _is_dense(tensor.shape, stride):
            raise TreeError(f"it holds a tensor {name[:100]!r} whose strides do not fit its shape")
        tensor = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
    return tensor


def _is_dense(shape: torch.Size, stride: list[Any]) -> bool:
    """Return whether strides place each element of a shape once, without gaps: then they take no further memory."""
    if len(stride) != len(shape) or any(type(one) is not int or one < 0 for one in stride):
        return False
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1:
            if step != expected:
                return False
            expected *= size
    return 0 not in shape


def _read_float(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> float:
    if form["float"] not in ("nan", "inf", "-inf"):
        raise TreeError("it holds an invalid float")
    return float(form["float"])


def _read_complex(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> complex:
    parts = [_value(one, tensors, depth + 1) for one in _list_of(form["complex"])]
    if [type(one) for one in parts] != [float, float]:
        raise TreeError("it holds an invalid complex number")
    return complex(*parts)


def _read_bytes(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> bytes:
    try:
        return base64.b64decode(form["bytes"], validate=True)
    except (TypeError, ValueError):
        raise TreeError("it holds invalid bytes") from None


def _read_dtype(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> torch.dtype:
    name = form["dtype"]
    if type(name) is not str or name not in _DTYPES:
        raise TreeError("it holds a dtype that torch does not have")
    return _DTYPES[name]


def _read_device(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> torch.device:
    try:
        return torch.device(form["device"])
    except (TypeError, ValueError, RuntimeError):
        raise TreeError("it holds a device that torch does not have") from None


def _read_size(form: dict[str, Node], tensors: dict[str, Tensor], depth: int) -> torch.Size:
    sizes = _list_of(form["size"])
    if any(type(one) is not int or not 0 <= one < 2**63 for one in sizes):
        raise TreeError("it holds an invalid size")
    return torch.Size(sizes)


_READERS: dict[str, Callable[[dict[str, Node], dict[str, Tensor], int], Any]] = {
    "dict": _read_dict,
    "items": lambda form, tensors, depth: _read_items(form["items"], {}, tensors, depth),
    "ordered": _read_ordered,
    "tuple": lambda form, tensors, depth: tuple([_value(one, tensors, depth + 1) for one in _list_of(form["tuple"])]),
    "tensor": _read_tensor,
    "float": _read_float,
    "complex": _read_complex,
    "bytes": _read_bytes,
    "dtype": _read_dtype,
    "device": _read_device,
    "size": _read_size,
}
_FURTHER_NAMES = {"ordered": {"metadata"}, "tensor": {"stride", "bytes_of"}}
