"""What the ranks of one training must have in common, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_NUMBERS = (bool, int, float, complex, str, type(None))


def network_facts(name: str, network: nn.Module) -> dict[str, str]:
    """Return the kinds of a network's layers, and the shapes and types of its tensors.

    Args:
        name: What the network is called.
        network: The network.

    Example:
        >>> for name, fact in network_facts("generator", nn.Linear(2, 3, bias=False)).items():
        ...     print(name, "|", fact)
        generator | Linear(in_features=2, out_features=3, bias=False)
        generator weight | float32 (3, 2), trained
    """
    facts: dict[str, str] = {}
    for path, layer in cast("Iterable[tuple[str, nn.Module]]", network.named_modules()):
        # torch's own layers describe themselves without anything that belongs to one rank, such as a device
        is_torch = type(layer).__module__.startswith("torch.nn")
        facts[f"{name} {path}".strip()] = f"{type(layer).__name__}({layer.extra_repr() if is_torch else ''})"
    for path, tensor in [*network.named_parameters(), *network.named_buffers()]:
        facts[f"{name} {path}"] = in_words(tensor) + (", trained" if tensor.requires_grad else "")
    return facts


def optimizer_facts(name: str, optimizer: Optimizer) -> dict[str, str]:
    """Return the class and the numbers of each group of an optimizer.

    Example:
        >>> optimizer_facts("generator_optimizer", torch.optim.SGD([torch.zeros(1)], lr=0.1))["generator_optimizer lr"]
        '0.1'
    """
    facts = {name: type(optimizer).__name__}
    for index, group in enumerate(optimizer.param_groups):
        title = f"{name} group {index}" if index else name
        for key, value in group.items():
            is_number = isinstance(value, Tensor) and value.numel() == 1
            shown = len(value) if key == "params" else float(value) if is_number else value
            facts[f"{title} {key}"] = in_words(shown)
    return facts


def in_words(value: object, depth: int = 2) -> str:
    """Return the class and the numbers of an object, without what may differ from rank to rank.

    Example:
        >>> from gankit.regularizers import R1
        >>> in_words(R1(weight=2.0))
        "R1(weight=2.0, every=1, reduction='mean', sigma=None)"
    """
    if isinstance(value, _NUMBERS):
        return repr(value)
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(in_words(one, depth) for one in cast('Sequence[object]', value))})"
    if isinstance(value, dict):
        items = cast("Mapping[object, object]", value).items()
        return f"({', '.join(f'{in_words(key)}: {in_words(own, depth)}' for key, own in items)})"
    if depth == 0 or isinstance(value, (torch.dtype, torch.device)) or not hasattr(value, "__dict__"):
        return type(value).__name__
    name = getattr(value, "__qualname__", None)  # of a function or a class
    if isinstance(name, str):
        return name
    own = [(key, one) for key, one in vars(value).items() if _is_common(key, one)]
    return f"{type(value).__name__}({', '.join(f'{key}={in_words(one, depth - 1)}' for key, one in own)})"


def _is_common(name: str, value: object) -> bool:
    is_of_one_rank = "rank" in name or (isinstance(value, str) and value.startswith("cuda"))
    return name[0] != "_" and name != "training" and not is_of_one_rank
