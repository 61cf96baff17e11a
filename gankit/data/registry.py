"""The registry of data sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils.data import Dataset

from gankit.data.resident import TensorData
from gankit.data.sampled import Sampler
from gankit.protocols import Batch
from gankit.registry import Registry

DATASETS = Registry[TensorData | Sampler | Dataset[Any] | Iterable[Batch]]("dataset", group="gankit.datasets")
"""Data sets, by name; each is a `TensorData`, a `Sampler`, a torch `Dataset`, or an endless iterable of batches."""
