"""Data that is drawn from a distribution whenever a batch is asked for, and never ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, check_count
from gankit.protocols import State
from gankit.seeds import replica_seeds, stream_seed


@runtime_checkable
class Sampler(Protocol):
    """A distribution that real samples are drawn from, as many as one likes."""

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
    """A distribution with modes that are known, so that one can count those a generator found."""

    @property
    def modes(self) -> Tensor:
        """The centres, `(modes, *sample_shape)`."""
        ...

    @property
    def standard_deviation(self) -> float:
        """The standard deviation of each mode, along each axis."""
        ...


class SampledBatches:
    """Endless batches from a `Sampler`, drawn on the device.

    Args:
        sampler: the distribution.
        batch_size: samples a batch.
        device: where they are drawn.
        seed: of the draws.
        replicas: give out `(R, N, *sample_shape)`, replica i drawn as with the seed `seed + i`.
        rank: of several processes that train together, each draws other samples.

    Attributes:
        sampler: as given.
        batch_size: as given.
        device: as given.

    Raises:
        BadValueError: for a batch size under 1.

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
        self._randoms = [
            torch.Generator(self.device).manual_seed(stream_seed(own, "toy data", rank))
            for own in replica_seeds(seed, replicas)
        ]

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """What batches are drawn from: one generator, or one a replica."""
        return self._randoms

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.read(0)

    def advance(self, slot: int) -> None:
        """Do nothing: batches have no place that the host would count."""

    def read(self, slot: int) -> Tensor:
        """Draw the next batch."""
        drawn = [self.sampler.sample(self.batch_size, generator=one, device=self.device) for one in self._randoms]
        return drawn[0] if self.replicas is None else torch.stack(drawn)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the stream of random numbers."""
        return {"random": [random.get_state() for random in self._randoms]}

    def load_state_dict(self, state: State) -> None:
        """Go on at the place that `state_dict` returned.

        Raises:
            BadArgumentsError: for another number of replicas.
        """
        if len(state["random"]) != len(self._randoms):
            raise BadArgumentsError(
                f"state must be of batches with {len(self._randoms)} generators, one a replica, got "
                f"{len(state['random'])}"
            )
        for random, saved in zip(self._randoms, state["random"], strict=True):
            random.set_state(saved.cpu())
