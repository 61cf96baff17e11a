"""Data that lies in memory, on the device where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import BadArgumentsError, BadValueError, DataError, check_count
from gankit.protocols import Batch, State
from gankit.seeds import replica_seeds, stream_seed


@dataclass(frozen=True, eq=False)
class TensorData:
    """Samples and, where there are, their labels.

    Args:
        samples: `(N, *sample_shape)`, bytes (pixels, 0 to 255) or floating point.
        labels: `(N,)` integers, or None.

    Raises:
        DataError: for no samples, or another number of labels.

    Example:
        >>> data = TensorData(torch.rand(10, 1, 8, 8))
        >>> len(data), data.sample_shape
        (10, (1, 8, 8))
    """

    samples: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim < 2 or not len(self.samples):
            raise DataError(f"samples must be (N, *sample_shape) with N above 0, got {tuple(self.samples.shape)}")
        if self.labels is not None and len(self.labels) != len(self.samples):
            raise DataError(f"labels must be one a sample, got {len(self.labels)} for {len(self.samples)}")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.samples)


def check_shard(shard: tuple[int, int]) -> None:
    """Raise `BadValueError` unless it is `(rank, ranks)`, with a rank from 0 to `ranks - 1`.

    Example:
        >>> check_shard((0, 2))
    """
    rank, ranks = shard
    if not 0 <= rank < ranks:
        raise BadValueError(f"shard must be (rank, ranks) with 0 <= rank < ranks, got {shard}")


def check_fills(count: int, batch_size: int, ranks: int = 1) -> None:
    """Raise `DataError` unless so many samples fill a batch on each rank.

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
    """Batches of resident data, each epoch shuffled once, without a copy from the host.

    Bytes stay bytes on the device and are scaled batch by batch. Iterating yields the rest of the present
    epoch, so that a training that stops in the middle goes on there; samples that do not fill a last batch
    wait for another epoch's shuffle.

    Args:
        data: a `TensorData`, or its samples alone.
        batch_size: samples a batch.
        device: where the data lies.
        seed: of the order.
        sample_range: what bytes are scaled to, and floats must lie in; None for any.
        with_labels: yield `(real, labels)` instead of `real`.
        replicas: give out `(R, N, *sample_shape)`, each replica's samples in an order of its own: that of the seed
            `seed + i`.
        shard: `(rank, ranks)`: of several processes that shuffle alike, each gives out another part of what one process
            with a batch `ranks` times as large would.

    Attributes:
        epoch: how many epochs are finished.
        position: how many batches of the present epoch have been given out.

    Raises:
        DataError: for fewer samples than a batch, values out of range or not finite, missing labels.

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
        self._randoms = [
            torch.Generator(self.device).manual_seed(stream_seed(own, "data order"))
            for own in replica_seeds(seed, replicas)
        ]
        self._rows: dict[int, Tensor] = {}
        self._shuffle()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """None: a batch is read without a draw."""
        return ()

    def _shuffle(self) -> None:
        self._randoms_before = [random.get_state() for random in self._randoms]
        size = len(self.samples)
        self._orders = torch.stack(
            [torch.randperm(size, generator=random, device=self.device) for random in self._randoms]
        )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.samples) // (self.batch_size * self.shard[1])

    def __iter__(self) -> Iterator[Batch]:
        if self.position >= len(self):
            self._begin_epoch()
        while self.position < len(self):
            yield self._at(self._next_rows())

    def advance(self, slot: int) -> None:
        """Put the numbers of the next batch's samples where `read` finds them; begin an epoch where one ends."""
        if self.position >= len(self):
            self._begin_epoch()
        rows = self._next_rows()
        if slot not in self._rows:
            self._rows[slot] = rows.clone()
        else:
            self._rows[slot].copy_(rows)

    def read(self, slot: int) -> Batch:
        """Return the batch that `advance` chose."""
        return self._at(self._rows[slot])

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self.position = 0
        self._shuffle()

    def _next_rows(self) -> Tensor:
        rank, ranks = self.shard
        first = (self.position * ranks + rank) * self.batch_size
        self.position += 1
        return self._orders[:, first : first + self.batch_size]

    def _at(self, rows: Tensor) -> Batch:
        real = scaled(self._chosen(self.samples, rows), self.sample_range)
        return real if self.labels is None else (real, self._chosen(self.labels, rows))

    def _chosen(self, of: Tensor, rows: Tensor) -> Tensor:
        if self.replicas is None:
            return of.index_select(0, rows[0])
        return of.index_select(0, rows.reshape(-1)).view(*rows.shape, *of.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data: epoch, position, and the generators before this epoch's shuffle."""
        return {"epoch": self.epoch, "position": self.position, "random": self._randoms_before}

    def load_state_dict(self, state: State) -> None:
        """Go on at the place that `state_dict` returned.

        Raises:
            BadArgumentsError: for a position beyond this data, or another number of replicas.
        """
        if not 0 <= state["position"] <= len(self):
            raise BadArgumentsError(
                f"state must be of data with {len(self)} batches an epoch, got position {state['position']}"
            )
        if len(state["random"]) != len(self._randoms):
            raise BadArgumentsError(
                f"state must be of data with {len(self._randoms)} orders, one a replica, got {len(state['random'])}"
            )
        self.epoch = state["epoch"]
        self.position = state["position"]
        for random, saved in zip(self._randoms, state["random"], strict=True):
            random.set_state(saved.cpu())
        self._shuffle()
