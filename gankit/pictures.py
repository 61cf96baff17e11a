"""Pictures of a training run: grids of samples, point clouds, animations, and curves of the metrics."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gankit.errors import (
    BadValueError,
    DataError,
    GankitWarning,
    MissingExtraError,
    OutputError,
    ShapeError,
    check_count,
    warn,
)
from gankit.files import not_writable, read_bytes, replacing

_MOST_FRAME_BYTES = 1 << 28
_FRAME_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_CURVES = (
    ("losses", ("discriminator_loss", "generator_loss")),
    ("D(x), D(G(z))", ("real_score", "fake_score")),
)


def save_grid(
    samples: Tensor,
    path: str | Path,
    *,
    sample_range: tuple[float, float] | None = None,
    columns: int = 8,
    zoom: int = 2,
) -> None:
    """Write samples as one picture, row by row.

    Args:
        samples: The samples `(N, C, H, W)` with 1 or 3 channels, floating point or bytes.
        path: The `.png` file to write.
        sample_range: The values that are drawn black and white. None takes 0 and 255 for bytes, 0 and 1 or else -1 and
            1 if all values lie between them, and otherwise their own lowest and highest.
        columns: The number of samples in a row.
        zoom: The factor by which each sample is enlarged.

    Raises:
        ShapeError: If the samples are not pictures, or there are none.
        BadValueError: If `columns` or `zoom` is less than 1, or Pillow writes no file with this ending.
        OutputError: If the file cannot be written.

    Example:
        >>> save_grid(torch.rand(16, 1, 28, 28), "grid.png")
    """
    pixels = _grid(samples, sample_range, columns, zoom)
    with _writable(path) as file:
        _pillow().fromarray(pixels.numpy()).save(file)


def save_pictures(
    samples: Tensor, paths: Sequence[str | Path], *, sample_range: tuple[float, float] | None = None
) -> None:
    """Write each sample as a picture of its own, in its own size.

    Args:
        samples: The samples `(N, C, H, W)` with 1 or 3 channels.
        paths: The file of each sample.
        sample_range: The values that are drawn black and white. None chooses them as `save_grid` does.

    Raises:
        ShapeError: If the samples are not pictures.
        BadValueError: If Pillow writes no file with this ending.
        OutputError: If a file cannot be written.

    Example:
        >>> save_pictures(torch.rand(2, 1, 28, 28), ["0000.png", "0001.png"])
    """
    _check_pictures(samples)
    low, high = _range_of(samples) if sample_range is None else sample_range
    pixels = ((samples.float() - low) / max(high - low, 1e-6)).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    for path, one in zip(paths, pixels.permute(0, 2, 3, 1), strict=True):
        with _writable(path) as file:
            _pillow().fromarray(one.squeeze(-1).contiguous().numpy()).save(file)


def save_array(samples: Tensor, path: str | Path) -> None:
    """Write samples as they are, as an array of numpy's.

    Args:
        samples: The samples.
        path: The `.npy` file to write.

    Raises:
        BadValueError: For a file with another ending.
        OutputError: If the file cannot be written.

    Example:
        >>> save_array(torch.rand(2, 1, 28, 28), "samples.npy")
    """
    import numpy

    path = Path(path)
    if path.suffix.lower() != ".npy":
        raise BadValueError(f"path must end in .npy, got {str(path)!r}")
    with _replacing(path, "the array") as temporary, temporary.open("wb") as file:
        numpy.save(file, samples.cpu().numpy())


def writes(path: str | Path, *, as_figure: bool) -> bool:
    """Return whether a picture can be written to a file with this ending: by matplotlib as a figure, or by Pillow.

    Example:
        >>> writes("curves.svg", as_figure=True), writes("grid.xyz", as_figure=False)
        (True, False)
    """
    ending = Path(path).suffix.lower()
    if as_figure:
        canvas = _matplotlib("backend_bases", "figures").FigureCanvasBase
        return ending.removeprefix(".") in canvas.get_supported_filetypes()
    pillow = _pillow()
    return pillow.registered_extensions().get(ending) in pillow.SAVE


def _check_pictures(samples: Tensor) -> None:
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or not samples.numel():
        raise ShapeError(f"samples must be pictures (N, 1 or 3, H, W), got {tuple(samples.shape)}")


def _grid(samples: Tensor, sample_range: tuple[float, float] | None, columns: int, zoom: int) -> Tensor:
    """Return the pixels of a grid as bytes `(height, width, 3)`."""
    _check_pictures(samples)
    check_count("columns", columns)
    check_count("zoom", zoom)
    sample_range = _range_of(samples) if sample_range is None else sample_range
    samples = samples.float().repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    make_grid: Callable[..., Tensor] = importlib.import_module("torchvision.utils").make_grid
    grid = make_grid(samples, columns, padding=2, normalize=True, value_range=sample_range, pad_value=0.5)
    return grid.mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).contiguous()


def _range_of(samples: Tensor) -> tuple[float, float]:
    if samples.dtype == torch.uint8:
        return 0.0, 255.0
    finite = samples.detach()[samples.isfinite()].float()
    lowest, highest = (float(one) for one in torch.aminmax(finite)) if finite.numel() else (0.0, 1.0)
    if lowest >= -1 and highest <= 1:
        return (0.0 if lowest >= 0 else -1.0), 1.0
    return lowest, highest


def save_points(
    real: Tensor,
    generated: Tensor,
    path: str | Path,
    *,
    logits: Callable[[Tensor], Tensor] | None = None,
    title: str = "",
) -> None:
    """Draw samples in the plane, real ones in grey and generated ones in orange, over the discriminator's logits.

    The real samples determine the frame, so that all pictures of one training have the same frame.

    Args:
        real: The real samples, `(N, 2)`.
        generated: The generated samples, `(M, 2)`.
        path: The `.png` or `.svg` file to write.
        logits: A function from points `(K, 2)` to `(K,)`, such as a discriminator, or
            `StepContext(discriminator=D).sample_logits` for one that judges a point several times. It is drawn as
            filled contours from red, its lowest value in the frame (fake), to blue, its highest (real). None draws
            none.
        title: The text above the picture.

    Raises:
        ShapeError: If the samples are not points in the plane, or there are none, or `logits` does not return one
            number for each.
        MissingExtraError: If matplotlib is not installed (the extra `plots`).
        BadValueError: If matplotlib writes no file with this ending.
        OutputError: If the file cannot be written.

    Example:
        >>> save_points(torch.randn(50, 2), torch.randn(50, 2), "points.png", logits=lambda x: -x.norm(dim=1))
    """
    figure = _figure("point clouds", figsize=(5, 5))
    _draw_points(figure.add_subplot(), real, generated, logits, title)
    with _writable(path, as_figure=True) as file:
        figure.savefig(file, dpi=100)


def save_panels(
    panels: Mapping[str, Tensor],
    path: str | Path,
    *,
    real: Tensor | None = None,
    sample_range: tuple[float, float] | None = None,
) -> None:
    """Draw the samples of several generators side by side, each in its own panel.

    Args:
        panels: The samples by title: points `(N, 2)`, or pictures `(N, 1 or 3, H, W)` of which 16 are drawn.
        path: The `.png` or `.svg` file to write.
        real: The real samples that are drawn behind generated points. None draws the generated points alone.
        sample_range: The values that are drawn black and white in pictures. None chooses them as `save_grid` does.

    Raises:
        DataError: If there are no panels.
        ShapeError: If the samples are neither points nor pictures.
        MissingExtraError: If matplotlib is not installed (the extra `plots`).
        BadValueError: If matplotlib writes no file with this ending.
        OutputError: If the file cannot be written.

    Example:
        >>> save_panels({"one": torch.rand(16, 1, 8, 8), "two": torch.rand(16, 1, 8, 8)}, "panels.png")
    """
    if not panels:
        raise DataError("panels must be one or more, got none")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure("panels", figsize=(3 * columns, 3.2 * rows))
    for place, (title, samples) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        if samples.ndim == 2:
            _draw_points(axes, samples if real is None else real, samples, None, title)
        else:
            axes.imshow(_grid(samples[:16], sample_range, columns=4, zoom=1).numpy(), interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
    with _writable(path, as_figure=True) as file:
        figure.savefig(file, dpi=100)


def _draw_points(
    axes: Any, real: Tensor, generated: Tensor, logits: Callable[[Tensor], Tensor] | None, title: str
) -> None:
    for name, points in (("real", real), ("generated", generated)):
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise ShapeError(f"{name} must be points (N, 2), got {tuple(points.shape)}")
    lowest, highest = real.amin(0), real.amax(0)
    margin = 0.2 * float((highest - lowest).max().clamp(min=1e-6))
    left, bottom = (float(value) - margin for value in lowest)
    right, top = (float(value) + margin for value in highest)
    if logits is not None:
        _draw_contours(axes, logits, (left, right), (bottom, top), real.device)
    axes.scatter(*real.cpu().T.numpy(), s=4, color="0.55", linewidths=0, label="real")
    axes.scatter(*generated.cpu().T.numpy(), s=4, color="tab:orange", linewidths=0, alpha=0.7, label="generated")
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)


def _draw_contours(
    axes: Any,
    logits: Callable[[Tensor], Tensor],
    across: tuple[float, float],
    up: tuple[float, float],
    device: torch.device,
    *,
    side: int = 80,
) -> None:
    x, y = torch.linspace(*across, side), torch.linspace(*up, side)
    with torch.no_grad():
        found: object = logits(torch.cartesian_prod(x, y).to(device))
    if not isinstance(found, Tensor) or found.numel() != side**2:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(
            f"logits must return one number for each of {side**2} points, got {got}; of a discriminator that judges a "
            "sample several times, StepContext(discriminator=D).sample_logits does"
        )
    heights = found.reshape(side, side).T.float().cpu()
    if bool(torch.isfinite(heights).all()):  # the logits of a network that has diverged are not drawn
        axes.contourf(x.numpy(), y.numpy(), heights.numpy(), levels=16, cmap="RdBu", alpha=0.5)


def save_animation(
    frames: Sequence[str | Path],
    path: str | Path,
    *,
    milliseconds: int = 250,
    most_frames: int = 200,
    skip_damaged: bool = False,
) -> None:
    """Join pictures into an animated GIF, which shows the last picture for two seconds.

    Args:
        frames: The files of the pictures, in order.
        path: The `.gif` file to write.
        milliseconds: The time for which each of the other pictures is shown.
        most_frames: The number of pictures in the animation. Of more, it takes so many at equal distances, with the
            first and the last.
        skip_damaged: Leave out files that are not whole pictures, with a `GankitWarning`. If no frame is left, no file
            is written.

    Raises:
        DataError: If there are no frames, or one of them is not a picture, without `skip_damaged`.
        BadValueError: If `most_frames` is less than 1.
        OutputError: If the file cannot be written.

    Example:
        >>> save_grid(torch.rand(4, 1, 8, 8), "a.png"); save_grid(torch.rand(4, 1, 8, 8), "b.png")
        >>> save_animation(["a.png", "b.png"], "both.gif")
    """
    if not frames:
        raise DataError("frames must be one or more pictures, got none")
    check_count("most_frames", most_frames)
    if len(frames) > most_frames:
        last, gaps = len(frames) - 1, max(1, most_frames - 1)
        frames = [frames[last - last * i // gaps] for i in reversed(range(most_frames))]
    pillow = _pillow()
    read: list[Any] = []
    for frame in frames:
        try:
            read.append(_frame(pillow, Path(frame)))
        except DataError as error:
            if not skip_damaged:
                raise
            warn(f"{Path(path).name} lacks a picture: {error}", GankitWarning)
    if not read:
        return
    first, *others = read
    durations = [milliseconds] * len(others) + [2000]
    with _writable(path) as file:
        first.save(file, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def _frame(pillow: ModuleType, file: Path) -> Any:
    try:
        return pillow.open(io.BytesIO(read_bytes(file, _MOST_FRAME_BYTES)), formats=_FRAME_FORMATS).quantize(64)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        reason = str(error).partition(" <_io.")[0]  # Pillow names the object that it reads from
        raise DataError(f"frames must be pictures, got {str(file)!r}: {reason}") from error


def save_curves(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw the losses and the scores D(x) and D(G(z)) over the steps, and those of each head of D as thin lines.

    Args:
        history: The metrics of each logged step: `trainer.history`, or the lines of a `metrics.jsonl`.
        path: The `.png` or `.svg` file to write.

    Raises:
        DataError: If the history is empty.
        MissingExtraError: If matplotlib is not installed (the extra `plots`).
        BadValueError: If matplotlib writes no file with this ending.
        OutputError: If the file cannot be written.

    Example:
        >>> save_curves([{"step": 1, "real_score": 0.6}, {"step": 2, "real_score": 0.7}], "curves.png")
    """
    if not history:
        raise DataError("history must have the metrics of one or more steps, got none")
    figure = _figure("curves", figsize=(8, 5))
    axes = figure.subplots(len(_CURVES), 1, sharex=True)
    for ax, (label, names) in zip(axes, _CURVES, strict=True):
        for name in [one for whole in names for one in (whole, *_of_heads(whole, history))]:
            points = [(row["step"], row[name]) for row in history if row.get(name) is not None]
            if points:
                style = {"linewidth": 0.5, "alpha": 0.6} if name not in names else {"linewidth": 1}
                ax.plot(*zip(*points, strict=True), label=name.replace("_", " "), **style)
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
    axes[-1].set_xlabel("steps")
    with _writable(path, as_figure=True) as file:
        figure.savefig(file, dpi=120)


def _of_heads(name: str, history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of a metric of each head, which a discriminator with several heads has beside the sum."""
    found = {one for row in history for one in row if one.startswith(f"{name}/head")}
    return sorted((one for one in found if one.rpartition("/head")[2].isdigit()), key=lambda one: (len(one), one))


def _figure(what: str, figsize: tuple[float, float]) -> Any:
    return _matplotlib("figure", what).Figure(figsize=figsize, layout="constrained")


def _matplotlib(module: str, what: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise MissingExtraError(f"{what} need matplotlib: pip install 'gankit[plots]'") from error


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pictures need pillow: pip install pillow") from error
    return Image


@contextlib.contextmanager
def _writable(path: str | Path, *, as_figure: bool = False) -> Generator[Path]:
    if not writes(path, as_figure=as_figure):
        writer = "matplotlib" if as_figure else "Pillow"
        raise BadValueError(f"path must end in .png or as another picture that {writer} writes, got {str(path)!r}")
    with _replacing(Path(path), "the picture") as temporary:
        yield temporary


@contextlib.contextmanager
def _replacing(path: Path, what: str) -> Generator[Path]:
    """Yield a temporary file to write to, which takes the place of the file, in a folder that is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(not_writable(what, path, error)) from error
    # Pillow reports a picture that is too large for its format by a ValueError
    with replacing(path, what, errors=(OSError, ValueError)) as temporary:
        yield temporary
