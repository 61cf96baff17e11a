"""The structure of networks: their layers and tensors, any of which may be replaced between two steps."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from torch import nn


class Structure:
    """Numbers the structures that networks have, as they change.

    Attributes:
        newest: The number that was returned last.

    Example:
        >>> network, structure = nn.Sequential(nn.ReLU()), Structure()
        >>> structure.number([network]), structure.number([network])
        (0, 0)
        >>> network[0] = nn.Tanh()
        >>> structure.number([network])
        1
    """

    def __init__(self) -> None:
        self.newest: int = 0
        self._places: list[Iterable[object]] = []
        self._parameters: list[nn.Parameter] = []
        self._known: tuple[list[int], list[bool]] = [], []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._kept: list[list[object]] = []  # so that no other object gets the id of one of them

    def __reduce__(self) -> tuple[type[Structure], tuple[()]]:
        return Structure, ()  # a copy of a trainer has its own networks

    def number(self, networks: Sequence[nn.Module]) -> int:
        """Return the number of the present structure, which is the same whenever the structure is."""
        if self._present(networks) != self._known:
            layers: list[Any] = [layer for network in networks for layer in network.modules()]
            own = [(one._parameters, one._buffers, one._modules) for one in layers]
            self._places = [dictionary.values() for dictionaries in own for dictionary in dictionaries]
            self._parameters = [parameter for network in networks for parameter in network.parameters()]
            self._known = self._present(networks)
            found = [one for network in networks for one in layers_and_tensors(network)]
            key = tuple(map(id, found))
            if key not in self._numbers:
                self._kept.append(found)
            self.newest = self._numbers.setdefault(key, len(self._numbers))
        return self.newest

    def _present(self, networks: Sequence[nn.Module]) -> tuple[list[int], list[bool]]:
        # in each step; looking at the known places is faster than finding them again
        ids = [*map(id, networks), *map(id, chain.from_iterable(self._places))]
        return ids, [parameter.requires_grad for parameter in self._parameters]


def layers_and_tensors(network: Any) -> list[object]:
    """Return the layers and tensors of a network in order, and whether each parameter requires a gradient.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> layers_and_tensors(layer) == [layer, layer.weight, True, None, False]
        True
    """
    found: list[object] = [network]
    for parameter in network._parameters.values():
        found += [parameter, parameter is not None and parameter.requires_grad]
    found += network._buffers.values()
    for child in network._modules.values():
        found += [] if child is None else layers_and_tensors(child)
    return found


def are_same(first: list[object], second: list[object]) -> bool:
    """Return whether two lists hold the same objects.

    Example:
        >>> are_same([None], [None]), are_same([[]], [[]])
        (True, False)
    """
    return len(first) == len(second) and all(map(operator.is_, first, second))
