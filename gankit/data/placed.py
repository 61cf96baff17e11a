"""Batches with one place, which `fit` moves and others look at."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor

from gankit.protocols import Batch


class PlacedBatches(ABC):
    """Batches with a place that taking a batch moves.

    Iterating takes batches, and so moves the place. While `fit` reads the batches it reserves them: whoever iterates
    over them meanwhile, such as a callback, gets the batches that follow, and the place stays.

    Attributes:
        is_reserved: Whether only `take` moves the place.
    """

    is_reserved: bool = False

    def __iter__(self) -> Iterator[Batch]:
        reader, batches = self, self.take()
        while True:
            if self.is_reserved and reader is self:
                reader = self._apart()
                batches = reader.take()
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    @abstractmethod
    def take(self) -> Iterator[Batch]:
        """Iterate over the rest of the current epoch and move the place."""

    @abstractmethod
    def follow(self, earlier: object) -> bool:
        """Share the place of earlier batches, if these are new, were made in the same way and would only repeat those.

        Returns:
            Whether the earlier batches also give the same samples, so that they may be read on instead of these.
        """

    @abstractmethod
    def _apart(self) -> Self:
        """Return batches over the same data that are at the same place now, and move a place of their own."""


def copied_generator(generator: torch.Generator) -> torch.Generator:
    """Return a new generator that draws what the given one would draw next.

    Example:
        >>> own = torch.Generator().manual_seed(3)
        >>> other = copied_generator(own)
        >>> bool(torch.rand(1, generator=own) == torch.rand(1, generator=other))
        True
    """
    other = torch.Generator(generator.device)
    other.set_state(generator.get_state())
    return other


def are_equal(first: Any, second: Any) -> bool:
    """Return whether two values are the same, or equal tensors, or objects of one dataclass with equal fields.

    Example:
        >>> are_equal(torch.zeros(2), torch.zeros(2)), are_equal(torch.zeros(2), torch.zeros(3)), are_equal(1, None)
        (True, False, False)
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        is_alike = (first.shape, first.dtype, first.device) == (second.shape, second.dtype, second.device)
        return is_alike and torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first) if field.init]
        return all(are_equal(getattr(first, name), getattr(second, name)) for name in names)
    return bool(first == second)
