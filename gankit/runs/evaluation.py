"""How good the samples of a run are, and real samples to draw beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from gankit.data import DATASETS, Mixture, SampledBatches, TensorBatches
from gankit.errors import BadValueError
from gankit.metrics import Evaluator, MixtureEvaluator, MnistEvaluator, StackedMnistEvaluator
from gankit.presets import Preset
from gankit.protocols import Batch
from gankit.runs.recipe import Recipe
from gankit.spec import Spec
from gankit.training import Evaluate

POINTS = 2000
"""The number of points in a picture of points in the plane."""


def evaluator_for(
    preset: Preset, batches: Iterable[Batch] | None = None, *, root: str | Path | None = None
) -> Evaluator | None:
    """Return what scores the samples of a model, or None for data that nothing in gankit scores.

    - A mixture whose modes are known, such as `ring`: `MixtureEvaluator`.
    - `mnist` and `mnist_5k` in 28 x 28 pixels: `MnistEvaluator`, which compares with the test digits in the folder of
      `mnist`, or with those that come with gankit.
    - `stacked_mnist`: `StackedMnistEvaluator`.

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
    digits = digits_evaluator(preset, root)
    if digits is not None:
        return digits
    if batches is None and not may_read_files(preset.data):
        batches = preset.batches(device="cpu")
    mixture = batches.sampler if isinstance(batches, SampledBatches) else None
    return MixtureEvaluator(mixture) if isinstance(mixture, Mixture) else None


def digits_evaluator(preset: Preset, root: str | Path | None = None) -> Evaluator | None:
    """Return what scores generated digits, or None for other data.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> digits_evaluator(vanilla_mnist).samples, digits_evaluator(vanilla_mnist, root="data").samples
        (2000, 10000)
    """
    data, scale = Spec.of(preset.data), preset.sample_range
    if root is None:
        root = data.arguments.get("root", "data" if data.name == "mnist" else None)
    if data.name in ("mnist", "mnist_5k") and preset.sample_shape == (1, 28, 28) and scale is not None:
        return MnistEvaluator(root, sample_range=scale)
    if data.name == "stacked_mnist" and preset.sample_shape == (3, 28, 28) and scale is not None:
        return StackedMnistEvaluator(root, sample_range=scale)
    return None


def evaluation_of(recipe: Recipe, batches: Iterable[Batch], folder: Path) -> Evaluate | None:
    """Return the callback that evaluates a run every `evaluate_every_steps`, or None for data that nothing scores.

    With 0 steps, it is for the evaluation at the end only, and writes no file.

    Raises:
        BadValueError: For evaluations of data that nothing scores.

    Example:
        >>> from gankit.presets import ring
        >>> recipe = Recipe(preset=ring, evaluate_every_steps=200)
        >>> evaluation_of(recipe, ring.batches(device="cpu"), Path("run")).path.as_posix()
        'run/evaluations.jsonl'
    """
    preset, every = recipe.preset, recipe.evaluate_every_steps
    evaluator = evaluator_for(preset, batches)
    if evaluator is None:
        if every:
            raise BadValueError(f"evaluate_every_steps must be 0 for data that nothing scores, got {every}")
        return None
    return Evaluate(
        evaluator,
        every=every or preset.steps,
        path=folder / "evaluations.jsonl" if every else None,
        condition=preset.labels(evaluator.samples),
        seed=recipe.seed,
        metric=recipe.keep_best,
        patience=recipe.patience,
    )


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
