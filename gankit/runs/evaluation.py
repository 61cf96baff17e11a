"""How good the samples of a run are, and real samples to draw beside them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch

from gankit.data import Mixture, SampledBatches, TensorBatches
from gankit.metrics import ModeCoverage, mode_coverage
from gankit.protocols import Batch
from gankit.seeds import stream_seed
from gankit.training import (
    AdversarialTrainer,
)

POINTS = 2000
"""The number of points in a picture of points in the plane."""


def evaluate(
    trainer: AdversarialTrainer, batches: Iterable[Batch], *, samples: int = 2500, seed: int = 0
) -> list[ModeCoverage]:
    """Return which modes of the data each trained generator found; none for data whose modes are not known.

    Args:
        trainer: its averaged generator is looked at, or the generator where there is no average.
        batches: what `Preset.batches` returned.
        samples: how many are generated; 2,500 as in Lin et al. 2018.
        seed: of the latents; of replica i, `seed + i`.

    Returns:
        One coverage, or one of each replica.

    Example:
        >>> from gankit.presets import ring
        >>> batches = ring.batches(device="cpu")
        >>> [one.modes for one in evaluate(ring(device="cpu").fit(batches, steps=2), batches)]
        [8]
    """
    mixture = batches.sampler if isinstance(batches, SampledBatches) else None
    if not isinstance(mixture, Mixture):
        return []
    generated = trainer.sample(samples, seed=stream_seed(seed, "sampling"))
    each = [generated] if trainer.replicas is None else generated
    return [mode_coverage(one, mixture.modes, mixture.standard_deviation) for one in each]


def evaluation_form(coverage: ModeCoverage) -> dict[str, Any]:
    """Return a coverage in plain containers that JSON can hold. A value that is not finite becomes None.

    Example:
        >>> evaluation_form(ModeCoverage(0, 8, 0.0, math.nan, 2500))["reverse_kl"]
    """
    form = dataclasses.asdict(coverage)
    return {name: value if math.isfinite(value) else None for name, value in form.items()}


def real_points(batches: Iterable[Batch], seed: int) -> torch.Tensor | None:
    """Return real samples in the plane, or None for other data. The stream of batches is left as it is.

    Example:
        >>> from gankit.presets import ring
        >>> real_points(ring.batches(device="cpu"), seed=0).shape
        torch.Size([2000, 2])
    """
    if isinstance(batches, SampledBatches) and batches.sampler.sample_shape == (2,):
        random = torch.Generator(batches.device).manual_seed(seed)
        return batches.sampler.sample(POINTS, generator=random, device=batches.device)
    if isinstance(batches, TensorBatches) and batches.samples.shape[1:] == (2,):
        return batches.samples[:POINTS]
    return None
