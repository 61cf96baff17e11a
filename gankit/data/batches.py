"""`make_batches`: turn any kind of data into the batches that a trainer takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from gankit.data.checked import CheckedDataset, check_labels, checked_keys, shape_hint
from gankit.data.epoch_reader import sampler_of
from gankit.data.placed import PlacedBatches
from gankit.data.resident import TensorBatches, TensorData, check_fills
from gankit.data.sampled import SampledBatches, Sampler
from gankit.data.scaling import SampleRange, check_values
from gankit.data.streams import StreamBatches
from gankit.errors import BadArgumentsError, DataError, ShapeError, check_seed
from gankit.protocols import Batch
from gankit.seeds import stream_seed


def make_batches(
    data: TensorData | Tensor | Sampler | Iterable[Any] | Dataset[Any],
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    sample_range: SampleRange = (0.0, 1.0),
    sample_shape: tuple[int, ...] | None = None,
    with_labels: bool = False,
    replicas: int | None = None,
    shard: tuple[int, int] = (0, 1),
    copy: bool = True,
    num_classes: int | None = None,
    keys: str | Sequence[str] | None = None,
) -> Iterable[Batch]:
    """Return batches of `data`.

    A tensor or `TensorData` becomes `TensorBatches` on the device, and a `Sampler` becomes endless `SampledBatches`. A
    `Dataset` is read by a `DataLoader` that shuffles. A `DataLoader`, like any other iterable, is expected to yield
    batches already.

    Args:
        data: The data itself. For data by name see `DATASETS.build` and the presets.
        batch_size: The number of samples in a batch. It is not used if `data` yields batches already.
        device: The device of the batches.
        seed: The seed of the order, or of the draws. It is not used if `data` yields batches already.
        sample_range: The range to which bytes are scaled and in which floats must lie. None for any range.
        sample_shape: The required shape of one sample. None for any shape.
        with_labels: Yield `(real, labels)` instead of `real`.
        replicas: The number of replicas. Batches are then `(R, N, *sample_shape)`, and replica i gets the batches of
            the seed `seed + i`.
        shard: `(rank, ranks)`: which part of the data this process gets, when several processes train together. A
            `DataLoader` of your own must select its part with a `DistributedSampler`.
        copy: Whether data in memory are copied if they are on the device already. False is for data that nothing else
            changes.
        num_classes: The number of classes: labels must be from 0 to `num_classes - 1`. None for any labels.
        keys: The names of the samples, or of the samples and the labels, in batches that are dictionaries, such as
            `("image", "label")`.

    Raises:
        DataError: If the data are empty, too few, out of range, or not finite.
        ShapeError: If the samples have another shape.
        BadArgumentsError: If `data` is none of these kinds.

    Example:
        >>> batches = make_batches(torch.rand(100, 1, 28, 28), batch_size=10)
        >>> next(iter(batches)).shape
        torch.Size([10, 1, 28, 28])
    """
    check_seed(seed)
    names = checked_keys(keys)
    if names is not None and isinstance(data, (Tensor, TensorData, Sampler, PlacedBatches)):
        raise BadArgumentsError(f"keys is for batches that are dictionaries, got it beside a {type(data).__name__}")
    if isinstance(data, Tensor):
        data = TensorData(data)
    if isinstance(data, TensorData):
        _check_sample_shape(data, sample_shape)
        return TensorBatches(
            data,
            batch_size=batch_size,
            device=device,
            seed=seed,
            sample_range=sample_range,
            with_labels=with_labels,
            replicas=replicas,
            shard=shard,
            copy=copy,
            num_classes=num_classes,
        )
    if isinstance(data, (TensorBatches, SampledBatches)):
        if replicas is not None and data.replicas != replicas:
            raise BadArgumentsError(f"batches must be made for {replicas} replicas, got {data.replicas}")
        if isinstance(data, TensorBatches) and data.labels is not None:
            check_labels(data.labels, num_classes)
        return data
    if isinstance(data, StreamBatches) and replicas is None:
        return data
    if isinstance(data, Sampler):
        _check_sample_shape(data, sample_shape)
        if with_labels:
            raise DataError("data must have labels for a conditional model, got a sampler, which has none")
        if sample_range is not None:  # a sampler has no fixed samples, so that only some can be checked
            check_values(data.sample(1000, generator=torch.Generator().manual_seed(seed)), sample_range, "the data")
        rank, _ = shard
        return SampledBatches(data, batch_size=batch_size, device=device, seed=seed, replicas=replicas, rank=rank)
    if replicas is not None:
        raise BadArgumentsError(
            "data for replicas must be in memory or a Sampler, so that each replica gets its own batches, got "
            f"{type(data).__name__}"
        )
    if isinstance(data, Dataset):
        if not isinstance(data, IterableDataset):
            classes = num_classes if with_labels else None
            data = CheckedDataset(data, sample_shape=sample_shape, num_classes=classes, keys=names)
        data = _shuffling_loader(data, batch_size, seed, shard)
    if shard[1] > 1:
        _check_divided(data)
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise BadArgumentsError(
            f"data must be a tensor, a TensorData, a Sampler, a Dataset, or an iterable of batches, got {data!r}"
        )
    return StreamBatches(
        data,
        device=device,
        sample_range=sample_range,
        sample_shape=sample_shape,
        with_labels=with_labels,
        num_classes=num_classes,
        keys=names,
    )


def _check_sample_shape(data: TensorData | Sampler, sample_shape: tuple[int, ...] | None) -> None:
    if sample_shape is not None and data.sample_shape != sample_shape:
        hint = shape_hint(sample_shape, data.sample_shape)
        raise ShapeError(f"data must have samples of shape {sample_shape}, got {data.sample_shape}{hint}")


def _check_divided(data: object) -> None:
    """Raise if `data` is a loader that would give the same samples to every rank."""
    sampler = sampler_of(cast("DataLoader[Any]", data)) if isinstance(data, DataLoader) else None
    if isinstance(sampler, (RandomSampler, SequentialSampler)):
        raise BadArgumentsError(
            "a DataLoader for several ranks must have a torch.utils.data.DistributedSampler, got one with a "
            f"{type(sampler).__name__}, which gives every rank the same samples"
        )


def _shuffling_loader(dataset: Dataset[Any], batch_size: int, seed: int, shard: tuple[int, int]) -> DataLoader[Any]:
    if isinstance(dataset, IterableDataset):  # its order is its own
        return DataLoader(cast("Dataset[Any]", dataset), batch_size, drop_last=True)
    rank, ranks = shard
    check_fills(len(cast(Sized, dataset)), batch_size, ranks)
    if ranks > 1:
        sampler: Any = DistributedSampler[Any](
            dataset, ranks, rank, seed=stream_seed(seed, "data order") % 2**32, drop_last=True
        )
        return DataLoader(dataset, batch_size, sampler=sampler, drop_last=True)
    generator = torch.Generator().manual_seed(stream_seed(seed, "data order"))
    return DataLoader(dataset, batch_size, shuffle=True, drop_last=True, generator=generator)
