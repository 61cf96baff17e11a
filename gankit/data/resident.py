"""Data in memory, on the device on which it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gankit.data.random_streams import restore_generators, seeded_generators
from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import BadArgumentsError, BadValueError, DataError, check_count
from gankit.protocols import Batch, State


@dataclass(frozen=True, eq=False)
class TensorData:
    """Samples, with their labels if there are any.

    Args:
        samples: The samples `(N, *sample_shape)`, bytes (pixels from 0 to 255) or floating point.
        labels: Their labels, `(N,)` integers, or None.
        classes: The names of the classes in the order of their labels, or None if they are not known.

    Raises:
        DataError: If there are no samples, or more or fewer labels than samples.

    Example:
        >>> data = TensorData(torch.rand(10, 1, 8, 8))
        >>> len(data), data.sample_shape
        (10, (1, 8, 8))
    """

    samples: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim < 2 or not len(self.samples):
            raise DataError(f"samples must be (N, *sample_shape) with N above 0, got {tuple(self.samples.shape)}")
        if self.labels is not None and len(self.labels) != len(self.samples):
            raise DataError(f"labels must be one per sample, got {len(self.labels)} for {len(self.samples)}")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.samples)


def check_shard(shard: tuple[int, int]) -> None:
    """Raise `BadValueError` unless `shard` is `(rank, ranks)` with a rank from 0 to `ranks - 1`.

    Example:
        >>> check_shard((0, 2))
    """
    rank, ranks = shard
    if not 0 <= rank < ranks:
        raise BadValueError(f"shard must be (rank, ranks) with 0 <= rank < ranks, got {shard}")


def check_fills(count: int, batch_size: int, ranks: int = 1) -> None:
    """Raise `DataError` unless `count` samples fill at least one batch on each rank.

    Example:
        >>> check_fills(10, 8)
        >>> check_fills(10, 8, ranks=2)
        Traceback (most recent call last):
        gankit.errors.DataError: data must fill a batch of 8 on each of 2 ranks, got 10 samples
    """
    if count < batch_size * ranks:
        over = f" on each of {ranks} ranks" if ranks > 1 else ""
        raise DataError(f"data must fill a batch of {batch_size}{over}, got {count} samples")


class TensorBatches:
    """Batches of data that stay on the device, shuffled once per epoch.

    Bytes are kept as bytes on the device, and each batch is scaled when it is used. Iterating yields the rest of the
    current epoch, so that a training that stops in the middle of an epoch continues there. Samples that do not fill a
    last batch are left out of the epoch.

    Args:
        data: A `TensorData`, or its samples alone.
        batch_size: The number of samples in a batch.
        device: The device on which the data are kept.
        seed: The seed of the order.
        sample_range: The range to which bytes are scaled and in which floats must lie. None for any range.
        with_labels: Yield `(real, labels)` instead of `real`.
        replicas: The number of replicas. Batches are then `(R, N, *sample_shape)`, and replica i gets its samples in
            the order of the seed `seed + i`.
        shard: `(rank, ranks)`, when several processes train together. All of them shuffle alike, and a batch of one
            process with `ranks` times the batch size is divided among them.

    Attributes:
        epoch: The number of finished epochs.
        position: The number of batches that have been taken from the current epoch.

    Raises:
        DataError: If the data have fewer samples than a batch, are out of range, are not finite, or lack labels.

    Example:
        >>> pixels = torch.arange(6, dtype=torch.uint8).reshape(6, 1)
        >>> batches = TensorBatches(pixels, batch_size=2)
        >>> sorted(int(x * 255 + 0.5) for batch in batches for x in batch)
        [0, 1, 2, 3, 4, 5]
    """

    known_finite = True

    def __init__(
        self,
        data: TensorData | Tensor,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        sample_range: SampleRange = (0.0, 1.0),
        with_labels: bool = False,
        replicas: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        check_count("batch_size", batch_size)
        check_shard(shard)
        if replicas is not None:
            check_count("replicas", replicas)
        if isinstance(data, Tensor):
            data = TensorData(data)
        check_fills(len(data), batch_size, shard[1])
        if with_labels and data.labels is None:
            raise DataError("data must have labels for a conditional model, got none")
        check_values(data.samples, sample_range, "the data")
        scaled(data.samples[:0], sample_range)
        self.device: torch.device = torch.device(device)
        self.batch_size = batch_size
        self.shard = shard
        self.sample_range = sample_range
        self.samples: Tensor = data.samples.to(self.device)
        self.labels: Tensor | None = data.labels.to(self.device) if with_labels and data.labels is not None else None
        self.epoch: int = 0
        self.position: int = 0
        self.replicas = replicas
        self._generators = seeded_generators(seed, "data order", replicas=replicas, device=self.device)
        self._rows: dict[int, Tensor] = {}
        self._shuffle()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """No generators: reading a batch draws no random numbers."""
        return ()

    def _shuffle(self) -> None:
        self._states_before_shuffle = [generator.get_state() for generator in self._generators]
        size = len(self.samples)
        self._orders = torch.stack(
            [torch.randperm(size, generator=generator, device=self.device) for generator in self._generators]
        )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.samples) // (self.batch_size * self.shard[1])

    def __iter__(self) -> Iterator[Batch]:
        if self.position >= len(self):
            self._begin_epoch()
        while self.position < len(self):
            yield self._batch(self._next_rows())

    def advance(self, slot: int) -> None:
        """Choose the samples of the next batch and write their numbers to `slot`; begin a new epoch if necessary."""
        if self.position >= len(self):
            self._begin_epoch()
        rows = self._next_rows()
        if slot not in self._rows:
            self._rows[slot] = rows.clone()
        else:
            self._rows[slot].copy_(rows)

    def read(self, slot: int) -> Batch:
        """Return the batch that `advance` chose for this slot."""
        return self._batch(self._rows[slot])

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self.position = 0
        self._shuffle()

    def _next_rows(self) -> Tensor:
        rank, ranks = self.shard
        first = (self.position * ranks + rank) * self.batch_size
        self.position += 1
        return self._orders[:, first : first + self.batch_size]

    def _batch(self, rows: Tensor) -> Batch:
        real = scaled(self._select(self.samples, rows), self.sample_range)
        return real if self.labels is None else (real, self._select(self.labels, rows))

    def _select(self, values: Tensor, rows: Tensor) -> Tensor:
        if self.replicas is None:
            return values.index_select(0, rows[0])
        return values.index_select(0, rows.reshape(-1)).view(*rows.shape, *values.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data: the epoch, the batch, and the generators before the epoch was shuffled."""
        return {"epoch": self.epoch, "position": self.position, "random": self._states_before_shuffle}

    def load_state_dict(self, state: State) -> None:
        """Continue at the position that `state_dict` returned.

        Raises:
            BadArgumentsError: If the position is beyond the end of these data, or the number of replicas differs.
        """
        if not 0 <= state["position"] <= len(self):
            raise BadArgumentsError(
                f"state must come from data with {len(self)} batches per epoch, got position {state['position']}"
            )
        restore_generators(self._generators, state["random"])
        self.epoch = state["epoch"]
        self.position = state["position"]
        self._shuffle()
