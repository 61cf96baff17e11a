"""Fingerprints of data, by which a training that is resumed recognises that its data have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from gankit.protocols import HasFingerprint

_MOST_BYTES = 1 << 28
"""How much of a tensor is read, 256 MiB: less than a second."""

_MOST_FILES = 100_000
"""Of how many files the sizes and times are looked up."""


def data_fingerprint(source: object) -> dict[str, str | int]:
    """Return what can be known at little cost about data: numbers, and SHA-256 of contents, by name.

    Known are data with a `fingerprint` of their own (`gankit.protocols.HasFingerprint`), tensors, lists of batches, and
    a `DataLoader` or a `Dataset` of torch: a `TensorDataset`, a `Subset`, data sets of torchvision, which hold tensors
    or the names of files, and of any other one its length.

    Example:
        >>> data_fingerprint(torch.zeros(3, 2))["number of samples"]
        3
        >>> data_fingerprint(torch.zeros(3, 2)) == data_fingerprint(torch.ones(3, 2))
        False
    """
    if isinstance(source, HasFingerprint):
        return dict(source.fingerprint())
    if isinstance(source, Tensor):
        return {"number of samples": len(source) if source.ndim else 1, "content": tensors_fingerprint([source])}
    if isinstance(source, (list, tuple)):
        parts = cast("Sequence[Any]", source)
        tensors = [one for part in parts for one in _values(part) if one is not None]
        if tensors and all(isinstance(one, Tensor) for one in tensors):
            return {"number of batches": len(parts), "content": tensors_fingerprint(tensors)}
        return {"number of batches": len(parts)}
    if isinstance(source, DataLoader):
        return data_fingerprint(cast("DataLoader[Any]", source).dataset)
    return _dataset_fingerprint(cast("Dataset[Any]", source)) if isinstance(source, Dataset) else {}


def _values(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return list(cast("Mapping[Any, Any]", batch).values())
    return list(cast("Sequence[Any]", batch)) if isinstance(batch, (list, tuple)) else [batch]


def _dataset_fingerprint(dataset: Any) -> dict[str, str | int]:
    if isinstance(dataset, TensorDataset):
        return {"number of samples": len(dataset), "content": tensors_fingerprint(dataset.tensors)}
    if isinstance(dataset, Subset):
        indices = torch.as_tensor(list(cast("Subset[Any]", dataset).indices))
        return data_fingerprint(cast("Subset[Any]", dataset).dataset) | {"subset": tensors_fingerprint([indices])}
    # the names of torchvision's data sets
    data, targets, samples = (getattr(dataset, name, None) for name in ("data", "targets", "samples"))
    if isinstance(data, Tensor):
        tensors = [data, targets] if isinstance(targets, Tensor) else [data]
        return {"number of samples": len(data), "content": tensors_fingerprint(tensors)}
    if isinstance(samples, list) and all(isinstance(one, tuple) for one in cast("list[Any]", samples)):
        files = [one[0] for one in cast("list[tuple[Any, ...]]", samples)]
        if all(isinstance(file, (str, Path)) for file in files):
            return files_fingerprint(files)
    try:
        return {"number of samples": len(cast(Sized, dataset))}
    except (TypeError, NotImplementedError):  # an IterableDataset
        return {}


def tensors_fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return a SHA-256 of the types, shapes and values of tensors. Of a large tensor, evenly spaced rows are read.

    Example:
        >>> tensors_fingerprint([torch.zeros(2)]) == tensors_fingerprint([torch.zeros(2, 1)])
        False
    """
    digest = hashlib.sha256()
    for one in tensors:
        digest.update(f"{one.dtype} {tuple(one.shape)};".encode())
        if one.layout is torch.strided and one.numel():
            rows = one.detach().reshape(1) if not one.ndim else one.detach()[:: -(-one.nbytes // _MOST_BYTES)]
            content: Any = rows.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            digest.update(content)
    return digest.hexdigest()


def files_fingerprint(files: Sequence[str | Path]) -> dict[str, str | int]:
    """Return the number of files, and SHA-256 of their names below their common folder, and of their sizes and times.

    Example:
        >>> _ = Path("a.txt").write_text("a"), Path("b.txt").write_text("b")
        >>> files_fingerprint(["a.txt", "b.txt"])["number of files"]
        2
    """
    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100 (thousands of them)
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""  # noqa: PTH120
    names, stats = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        names.update(os.fsencode(path[len(common) :]) + b"\0")
    for path in paths[:: -(-len(paths) // _MOST_FILES) or 1]:
        try:
            about = os.stat(path)  # noqa: PTH116
        except OSError:
            stats.update(b"missing")
        else:
            stats.update(f"{about.st_size} {about.st_mtime_ns};".encode())
    return {
        "number of files": len(paths),
        "names of the files": names.hexdigest(),
        "sizes and times of the files": stats.hexdigest(),
    }
