"""Data in memory, on the device on which it is used."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor
from typing_extensions import override

from gankit.data.checked import as_labels, check_labels
from gankit.data.placed import PlacedBatches, are_equal, copied_generator
from gankit.data.random_streams import check_names, restore_generators, seeded_generators
from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import BadArgumentsError, BadValueError, DataError, check_count
from gankit.fingerprints import tensors_fingerprint
from gankit.protocols import Batch, State


@dataclass(frozen=True, eq=False)
class TensorData:
    """Samples, with their labels if there are any.

    Args:
        samples: The samples `(N, *sample_shape)`, bytes (pixels from 0 to 255) or floating point.
        labels: Their labels, `(N,)` integers in a tensor, an array or a list, or None.
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
        if not isinstance(cast(object, self.samples), Tensor):
            raise BadArgumentsError(
                f"samples must be a tensor, got {type(self.samples).__name__}; torch.as_tensor makes one of an array"
            )
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.labels))
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
        gankit.errors.DataError: data must fill a batch of 8 on each of 2 ranks, got 10 samples; choose a \
smaller batch_size
    """
    if count < batch_size * ranks:
        over = f" on each of {ranks} ranks" if ranks > 1 else ""
        raise DataError(
            f"data must fill a batch of {batch_size}{over}, got {count} samples; choose a smaller batch_size"
        )


class _Place:
    """The order of the present epoch, for each replica, and the position in it."""

    def __init__(self, generators: list[torch.Generator], size: int) -> None:
        self.generators = generators
        self.size = size
        self.epoch = 0
        self.position = 0
        self.is_new = True
        self.shuffle()

    def shuffle(self) -> None:
        self.states_before_shuffle = [generator.get_state() for generator in self.generators]
        self.orders = torch.stack(
            [torch.randperm(self.size, generator=one, device=one.device) for one in self.generators]
        )

    def begin_epoch(self) -> None:
        self.epoch += 1
        self.position = 0
        self.shuffle()

    def apart(self) -> _Place:
        other = copy.copy(self)
        other.generators = [copied_generator(one) for one in self.generators]
        return other


class TensorBatches(PlacedBatches):
    """Batches of data that stay on the device, shuffled once per epoch.

    Bytes are kept as bytes on the device, and each batch is scaled when it is used. The data are copied, so that a
    later change of what was given does not reach the batches. Iterating yields the rest of the current epoch, so that a
    training that stops in the middle of an epoch continues there. While `fit` reads the batches, iterating elsewhere
    shows what follows and takes nothing. Samples that do not fill a last batch are left out of the epoch.

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
        copy: Whether data that are on the device already are copied. False is for data that nothing else changes.
        num_classes: The number of classes: labels must be from 0 to `num_classes - 1`. None for any labels.

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
        copy: bool = True,
        num_classes: int | None = None,
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
        if with_labels:
            check_labels(data.labels, num_classes)
        check_values(data.samples, sample_range, "the data")
        scaled(data.samples[:0], sample_range)
        self.device: torch.device = torch.device(device)
        self.batch_size = batch_size
        self.shard = shard
        self.sample_range = sample_range
        self.samples: Tensor = _placed(data.samples, self.device, copy)
        self.labels: Tensor | None = None
        if with_labels and data.labels is not None:
            self.labels = _placed(data.labels, self.device, copy)
        self.replicas = replicas
        self.seed = seed
        generators = seeded_generators(seed, "data order", replicas=replicas, device=self.device)
        self._place = _Place(generators, len(self.samples))
        self._rows: dict[int, Tensor] = {}

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return self._place.epoch

    @property
    def position(self) -> int:
        """The number of batches that have been taken from the current epoch."""
        return self._place.position

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """No generators: reading a batch draws no random numbers."""
        return ()

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.samples) // (self.batch_size * self.shard[1])

    @override
    def take(self) -> Iterator[Batch]:
        """Iterate over the rest of the current epoch, or over the next one at its end, and move the place."""
        if self.position >= len(self):
            self._place.begin_epoch()
        while self.position < len(self):
            yield self._batch(self._next_rows())

    @override
    def follow(self, earlier: object) -> bool:
        if not isinstance(earlier, TensorBatches):
            return False
        if self._place is not earlier._place:
            if not self._place.is_new or self._order_of() != earlier._order_of():
                return False
            self._place = earlier._place
        kept = [(one.device, one.sample_range, one.samples, one.labels) for one in (self, earlier)]
        return all(map(are_equal, *kept))

    def _order_of(self) -> tuple[object, ...]:
        """Return what decides the order of the samples."""
        return (self.seed, self.batch_size, self.replicas, self.shard, len(self.samples), self.device)

    @override
    def _apart(self) -> Self:
        other = copy.copy(self)
        other._place, other._rows, other.is_reserved = self._place.apart(), {}, False
        return other

    def advance(self, slot: int) -> None:
        """Choose the samples of the next batch and write their numbers to `slot`; begin a new epoch if necessary."""
        if self.position >= len(self):
            self._place.begin_epoch()
        rows = self._next_rows()
        if slot not in self._rows:
            self._rows[slot] = rows.clone()
        else:
            self._rows[slot].copy_(rows)

    def read(self, slot: int) -> Batch:
        """Return the batch that `advance` chose for this slot."""
        return self._batch(self._rows[slot])

    def _next_rows(self) -> Tensor:
        rank, ranks = self.shard
        first = (self.position * ranks + rank) * self.batch_size
        self._place.position += 1
        self._place.is_new = False
        return self._place.orders[:, first : first + self.batch_size]

    def _batch(self, rows: Tensor) -> Batch:
        real = scaled(self._select(self.samples, rows), self.sample_range)
        return real if self.labels is None else (real, self._select(self.labels, rows))

    def _select(self, values: Tensor, rows: Tensor) -> Tensor:
        if self.replicas is None:
            return values.index_select(0, rows[0])
        return values.index_select(0, rows.reshape(-1)).view(*rows.shape, *values.shape[1:])

    def fingerprint(self) -> dict[str, str | int]:
        """Return the number of the samples, and a hash of samples and labels."""
        tensors = [self.samples] if self.labels is None else [self.samples, self.labels]
        return {"number of samples": len(self.samples), "content": tensors_fingerprint(tensors)}

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data: the epoch, the batch, and the generators before the epoch was shuffled."""
        return {"epoch": self.epoch, "position": self.position, "random": self._place.states_before_shuffle}

    def load_state_dict(self, state: State) -> None:
        """Continue at the position that `state_dict` returned.

        Raises:
            BadArgumentsError: If the state is that of other batches, the position is beyond the end of these data, or
                the number of replicas differs.
        """
        check_names(state, {"epoch", "position", "random"})
        if type(state["position"]) is not int or not 0 <= state["position"] <= len(self):
            raise BadArgumentsError(
                f"state must come from data with {len(self)} batches per epoch, got position {state['position']}"
            )
        place = self._place
        restore_generators(place.generators, state["random"])
        place.epoch, place.position, place.is_new = state["epoch"], state["position"], False
        place.shuffle()


def _placed(values: Tensor, device: torch.device, is_copied: bool) -> Tensor:
    placed = values.detach().to(device)
    return (
        placed.clone()
        if is_copied and placed.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
        else placed
    )
