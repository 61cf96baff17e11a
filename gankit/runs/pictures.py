"""Which pictures a run draws while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gankit.errors import GankitWarning, warn
from gankit.protocols import Batch
from gankit.runs.evaluation import POINTS, real_points
from gankit.runs.recipe import Recipe
from gankit.training import PointClouds, SampleGrids


def pictures_of(recipe: Recipe, batches: Iterable[Batch], folder: Path) -> SampleGrids | PointClouds | None:
    """Return the callback that draws a run's samples, or None for samples that cannot be drawn.

    The stream of batches is left as it is.

    Example:
        >>> from gankit.presets import ring
        >>> pictures_of(Recipe(preset=ring), ring.batches(device="cpu"), Path("samples")).count
        2000
    """
    preset, every, seed = recipe.preset, recipe.sample_every_steps, recipe.seed
    points = real_points(batches, seed)
    if points is not None and preset.num_classes is None:
        return PointClouds(folder, points, every=every, count=POINTS, seed=seed)
    if len(preset.sample_shape) != 3 or preset.sample_shape[0] not in (1, 3):
        return None
    return SampleGrids(folder, every=every, condition=preset.labels(64), seed=seed)


def can_plot(what: str) -> bool:
    """Return whether matplotlib is installed. If not, a `GankitWarning` says what is missing therefore."""
    try:
        import matplotlib.figure  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        warn(f"{what}: they need matplotlib: pip install 'gankit[plots]'", GankitWarning)
        return False
    return True
