"""Pictures of a training run: grids of samples, their animation, curves of the metrics."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gankit.errors import DataError, MissingExtraError, OutputError, ShapeError, check_positive

_CURVES = (
    ("losses", ("discriminator_loss", "generator_loss")),
    ("D(x), D(G(z))", ("real_score", "fake_score")),
)


def save_grid(
    samples: Tensor,
    path: str | Path,
    *,
    sample_range: tuple[float, float] = (0.0, 1.0),
    columns: int = 8,
    zoom: int = 2,
) -> None:
    """Write samples as one picture, row by row.

    Args:
        samples: `(N, C, H, W)` with 1 or 3 channels, floating point or bytes.
        path: a `.png` file.
        sample_range: the values of black and white.
        columns: how many samples a row has.
        zoom: the side, in pixels, of what one pixel of a sample becomes.

    Raises:
        ShapeError: for samples that are no pictures, or none at all.
        BadValueError: for `columns` or `zoom` under 1.
        OutputError: where the file cannot be written.

    Example:
        >>> save_grid(torch.rand(16, 1, 28, 28), "grid.png")
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or not samples.numel():
        raise ShapeError(f"samples must be pictures (N, 1 or 3, H, W), got {tuple(samples.shape)}")
    check_positive("columns", columns)
    check_positive("zoom", zoom)
    samples = samples.float().repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    make_grid: Callable[..., Tensor] = importlib.import_module("torchvision.utils").make_grid
    grid = make_grid(samples, columns, padding=2, normalize=True, value_range=sample_range, pad_value=0.5)
    pixels = grid.mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).contiguous()
    with _writable(path) as file:
        _pillow().fromarray(pixels.numpy()).save(file)


def save_animation(frames: Sequence[str | Path], path: str | Path, *, milliseconds: int = 250) -> None:
    """Join pictures to an animated GIF, the last one standing for two seconds.

    Args:
        frames: the pictures' files, in order.
        path: a `.gif` file.
        milliseconds: how long each picture stands.

    Raises:
        DataError: for no frames.
        OutputError: where the file cannot be written.

    Example:
        >>> save_grid(torch.rand(4, 1, 8, 8), "a.png"); save_grid(torch.rand(4, 1, 8, 8), "b.png")
        >>> save_animation(["a.png", "b.png"], "both.gif")
    """
    if not frames:
        raise DataError("an animation needs one frame or more, got none")
    pillow = _pillow()
    first, *others = (pillow.open(frame).quantize(64) for frame in frames)
    durations = [milliseconds] * len(others) + [2000]
    with _writable(path) as file:
        first.save(file, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def save_curves(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw the losses and the scores D(x), D(G(z)) over the steps.

    Args:
        history: `trainer.history`, or the lines of a `metrics.jsonl`.
        path: a `.png` or `.svg` file.

    Raises:
        MissingExtraError: without matplotlib (the extra `plots`).
        OutputError: where the file cannot be written.

    Example:
        >>> save_curves([{"step": 1, "real_score": 0.6}, {"step": 2, "real_score": 0.7}], "curves.png")
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("curves need matplotlib: pip install 'gankit[plots]'") from error

    figure: Any = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots(len(_CURVES), 1, sharex=True)
    for ax, (label, names) in zip(axes, _CURVES, strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in history if row.get(name) is not None]
            if points:
                ax.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1)
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
    axes[-1].set_xlabel("steps")
    with _writable(path) as file:
        figure.savefig(file, dpi=120)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pictures need pillow: pip install pillow") from error
    return Image


@contextlib.contextmanager
def _writable(path: str | Path) -> Generator[Path]:
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}; name a file in a folder that can be written") from error
