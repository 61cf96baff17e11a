"""Endless data: each batch is drawn from a distribution when it is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from gankit.data.placed import PlacedBatches, are_equal, copied_generator
from gankit.data.random_streams import check_names, restore_generators, seeded_generators
from gankit.errors import check_count
from gankit.protocols import State, makes_new_tensors


@runtime_checkable
class Sampler(Protocol):
    """A distribution from which any number of real samples can be drawn."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        ...

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `(count, *sample_shape)` on `device`, from `generator`, which must be on the same device."""
        ...


@runtime_checkable
class Mixture(Sampler, Protocol):
    """A distribution with known modes, so that the modes that a generator has found can be counted."""

    @property
    def modes(self) -> Tensor:
        """The centres of the modes, `(modes, *sample_shape)`."""
        ...

    @property
    def standard_deviation(self) -> float:
        """The standard deviation of each mode, along each axis."""
        ...


class SampledBatches(PlacedBatches):
    """Endless batches from a `Sampler`, drawn on the device.

    While `fit` reads the batches, iterating elsewhere shows what follows and takes nothing.

    Args:
        sampler: The distribution.
        batch_size: The number of samples in a batch.
        device: The device on which samples are drawn.
        seed: The seed of the draws.
        replicas: The number of replicas. Batches are then `(R, N, *sample_shape)`, and replica i gets the samples of
            the seed `seed + i`.
        rank: The number of this process among those that train together. Each rank draws other samples.

    Attributes:
        sampler: The distribution.
        batch_size: The number of samples in a batch.
        device: The device on which samples are drawn.

    Raises:
        BadValueError: If `batch_size` is less than 1.

    Example:
        >>> from gankit.data import ring
        >>> batches = SampledBatches(ring(), batch_size=4, seed=3)
        >>> state = batches.state_dict()
        >>> first = next(iter(batches))
        >>> batches.load_state_dict(state)
        >>> first.shape, torch.equal(next(iter(batches)), first)
        (torch.Size([4, 2]), True)
    """

    known_finite = True

    def __init__(
        self,
        sampler: Sampler,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        replicas: int | None = None,
        rank: int = 0,
    ) -> None:
        check_count("batch_size", batch_size)
        if replicas is not None:
            check_count("replicas", replicas)
        self.sampler: Sampler = sampler
        self.batch_size = batch_size
        self.device: torch.device = torch.device(device)
        self.replicas = replicas
        self.seed = seed
        self.rank = rank
        self._is_new = True
        self._generators = seeded_generators(seed, "toy data", replicas=replicas, device=self.device, rank=rank)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The generators from which batches are drawn, one per replica; a single one without replicas."""
        return self._generators

    @override
    def take(self) -> Iterator[Tensor]:
        """Iterate without an end."""
        while True:
            yield self.read(0)

    @override
    def follow(self, earlier: object) -> bool:
        if not isinstance(earlier, SampledBatches):
            return False
        if self._generators is not earlier._generators:
            if not self._is_new or self._stream_of() != earlier._stream_of():
                return False
            self._generators, self._is_new = earlier._generators, False
        return are_equal(self.sampler, earlier.sampler)

    def _stream_of(self) -> tuple[object, ...]:
        """Return what decides the random numbers that samples are drawn from."""
        return (type(self.sampler), self.seed, self.batch_size, self.replicas, self.rank, self.device)

    @override
    def _apart(self) -> Self:
        other = copy.copy(self)
        other._generators, other.is_reserved = [copied_generator(one) for one in self._generators], False
        return other

    def advance(self, slot: int) -> None:
        """Do nothing: there is no position to count, because each batch is drawn anew."""

    def read(self, slot: int) -> Tensor:
        """Draw the next batch."""
        self._is_new = False
        if self.replicas is None:
            return self._draw(self._generators[0])
        if makes_new_tensors(self.sampler):
            return torch.stack([self._draw(one) for one in self._generators])
        return torch.stack([self._draw(one).clone() for one in self._generators])

    def _draw(self, generator: torch.Generator) -> Tensor:
        return self.sampler.sample(self.batch_size, generator=generator, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators."""
        return {"random": [generator.get_state() for generator in self._generators]}

    def load_state_dict(self, state: State) -> None:
        """Continue from the states that `state_dict` returned.

        Raises:
            BadArgumentsError: If the state is that of other batches, or the number of replicas differs.
        """
        check_names(state, {"random"})
        restore_generators(self._generators, state["random"])
        self._is_new = False
