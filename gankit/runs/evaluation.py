"""How good the samples of a run are, and real samples to draw beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from gankit.data import DATASETS, Mixture, SampledBatches, TensorBatches
from gankit.files import finite_or_none
from gankit.metrics import Evaluator, MixtureEvaluator, ModeCoverage, mode_coverage
from gankit.presets import Preset
from gankit.protocols import Batch
from gankit.seeds import replica_seeds, stream_seed
from gankit.spec import Spec
from gankit.training import AdversarialTrainer

POINTS = 2000
"""The number of points in a picture of points in the plane."""


def evaluate(
    trainer: AdversarialTrainer, batches: Iterable[Batch], *, samples: int = 2500, seed: int = 0
) -> list[ModeCoverage]:
    """Count the modes of the data that each trained generator captures, where the modes are known.

    The latents come from a stream of their own, so that they are not those of any other samples.

    Args:
        trainer: The trainer, whose averaged generator is evaluated, or its generator if there is no average.
        batches: The batches that `Preset.batches` returned.
        samples: The number of samples to generate; 2,500 as in Lin et al. 2018.
        seed: The seed of the latents. Replica i is evaluated as a single model with the seed `seed + i` is.

    Returns:
        One coverage, or one for each replica. An empty list for data whose modes are not known.

    Example:
        >>> from gankit.presets import ring
        >>> batches = ring.batches(device="cpu")
        >>> [one.modes for one in evaluate(ring(device="cpu").fit(batches, steps=2), batches)]
        [8]
    """
    mixture = batches.sampler if isinstance(batches, SampledBatches) else None
    if not isinstance(mixture, Mixture):
        return []
    seeds = [stream_seed(one, "evaluation") for one in replica_seeds(seed, trainer.replicas)]
    generated = trainer.sample(samples, seed=seeds)
    each = [generated] if trainer.replicas is None else generated
    return [mode_coverage(one, mixture.modes, mixture.standard_deviation) for one in each]


def evaluation_form(coverage: ModeCoverage) -> dict[str, Any]:
    """Return a coverage in plain containers that JSON can hold. A value that is not finite becomes None.

    Example:
        >>> evaluation_form(ModeCoverage(0, 8, 0.0, float("nan"), 2500))["reverse_kl"]
    """
    return finite_or_none(dataclasses.asdict(coverage))


def evaluator_for(
    preset: Preset, batches: Iterable[Batch] | None = None, *, root: str | Path | None = None
) -> Evaluator | None:
    """Return what scores the samples of a model, or None for data that nothing in gankit scores.

    - A mixture whose modes are known, such as `ring`: `MixtureEvaluator`.

    Args:
        preset: The model and the name of its data.
        batches: The batches that `Preset.batches` returned. None makes those of the preset, unless files may have to be
            read for them.
        root: The folder of the data that samples are compared with, where they have one. None takes that of the preset.

    Example:
        >>> from gankit.presets import ring
        >>> evaluator_for(ring).samples, evaluator_for(ring.replace(data="two_moons"))
        (2500, None)
    """
    if batches is None and not may_read_files(preset.data):
        batches = preset.batches(device="cpu")
    mixture = batches.sampler if isinstance(batches, SampledBatches) else None
    return MixtureEvaluator(mixture) if isinstance(mixture, Mixture) else None


def may_read_files(data: str | Spec) -> bool:
    """Return whether a data set may have to read files: whether it has a `root`, or any argument that is text.

    Example:
        >>> may_read_files("ring"), may_read_files("mnist"), may_read_files(Spec("own", table="points.csv"))
        (False, True, True)
    """
    values = Spec.of(data).arguments.values()
    return not all(isinstance(value, (int, float)) for value in values) or DATASETS.accepts(data, "root")


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
