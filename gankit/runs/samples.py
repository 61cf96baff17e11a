"""Samples of a run as files: which latents they are generated from, and in which form they are written."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gankit.devices import resolve_device
from gankit.errors import BadValueError, DeviceError, GankitWarning, OutputExistsError, ShapeError, check_count, warn
from gankit.files import read_bytes
from gankit.latents import Normal
from gankit.pictures import save_array, save_grid, save_panels, save_pictures, save_points, writes
from gankit.protocols import HasShape
from gankit.runs.evaluation import POINTS, may_read_files, real_points
from gankit.runs.folder import refused_with
from gankit.runs.recipe import Recipe
from gankit.training import AdversarialTrainer
from gankit.training.callbacks import sample_replicas
from gankit.training.step.sampling import check_memory, first_latents, generate_from, seeds_per_replica

_MOST_LATENTS_BYTES = 1 << 30
_ROWS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Which samples are generated.

    Args:
        count: The number of samples. None takes 64 pictures or 2,000 points, 8 rows of an interpolation, or one sample
            for each of the given latents.
        seed: The seed of the latents. With another count, the first samples are the same.
        latents: Latents of one's own, `(N, *latent_shape)`, or None for random ones.
        interpolate: The number of samples in each row, whose latents lead from one latent to the next. None generates
            one sample from each latent.

    Raises:
        BadValueError: For a count that does not go with the other arguments.
    """

    count: int | None = None
    seed: int = 0
    latents: Tensor | None = None
    interpolate: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            check_count("count", self.count)
        if self.latents is not None and self.count is not None:
            raise BadValueError(f"count must be left out beside latents of one's own, got {self.count}")
        steps = self.interpolate
        if steps is None:
            return
        check_count("interpolate", steps)
        if steps < 2:
            raise BadValueError(f"interpolate must be 2 or more, the number of samples in a row, got {steps}")
        if self.count is not None and self.count % steps:
            raise BadValueError(f"count must be a multiple of the {steps} samples in a row, got {self.count}")
        if self.latents is not None and len(self.latents) < 2:
            raise BadValueError(f"latents must be 2 or more to interpolate between, got {len(self.latents)}")


def read_latents(file: Path) -> Tensor:
    """Read latents from a `.npy` or a `.pt` file, which holds one tensor. No code from the file is executed.

    Raises:
        BadArgumentsError: For a file that cannot be read, or holds something else.
        BadValueError: For a file with another ending.

    Example:
        >>> torch.save(torch.zeros(3, 10), "latents.pt")
        >>> read_latents(Path("latents.pt")).shape
        torch.Size([3, 10])
    """
    if file.suffix.lower() not in (".npy", ".pt"):
        raise BadValueError(f"latents must be in a file that ends in .npy or .pt, got {str(file)!r}")
    with refused_with(f"{file} must hold latents, one tensor (N, *latent_shape) of numbers"):
        content = io.BytesIO(read_bytes(file, _MOST_LATENTS_BYTES))
        if file.suffix.lower() == ".npy":
            import numpy

            found: Any = torch.as_tensor(numpy.load(content, allow_pickle=False))
        else:
            found = torch.load(content, weights_only=True, map_location="cpu")
        if not isinstance(found, Tensor) or not found.numel() or found.is_complex() or found.dtype == torch.bool:
            raise ValueError(f"it holds {type(found).__name__} without numbers")
        if not found.isfinite().all():
            raise ValueError("it holds NaN or infinity")
    return found.detach()


def interpolated(latents: Tensor, steps: int, *, keeps_norm: bool) -> Tensor:
    """Return rows of latents, each of which leads from one latent to the next.

    Formula: `(1 - t) a + t b` for `steps` values of t from 0 to 1. With `keeps_norm`, this is divided by
    `sqrt((1 - t)^2 + t^2)`, so that between two standard normal latents there are standard normal ones.

    Args:
        latents: `(N, *latent_shape)`.
        steps: The number of latents in a row, both ends included.
        keeps_norm: Whether the latents are standard normal.

    Returns:
        `((N - 1) * steps, *latent_shape)`, row by row.

    Example:
        >>> interpolated(torch.tensor([[0.0], [1.0], [3.0]]), 3, keeps_norm=False).flatten()
        tensor([0.0000, 0.5000, 1.0000, 1.0000, 2.0000, 3.0000])
    """
    t = torch.linspace(0, 1, steps, device=latents.device, dtype=latents.dtype)
    t = t.reshape(1, steps, *[1] * (latents.ndim - 1))
    first, second = latents[:-1].unsqueeze(1), latents[1:].unsqueeze(1)
    rows = (1 - t) * first + t * second
    if keeps_norm:
        rows = rows / ((1 - t) ** 2 + t**2).sqrt()
    return rows.flatten(0, 1)


def make_samples(recipe: Recipe, trainer: AdversarialTrainer, request: Request) -> Tensor:
    """Generate the samples of a request.

    With replicas, random latents are those of each replica in turn, and given or interpolated ones are used by one
    replica after the other.

    Args:
        recipe: The recipe of the run.
        trainer: The trainer of the run.
        request: Which samples are generated.

    Returns:
        `(count, *sample_shape)`.

    Raises:
        BadValueError: For more samples than fit into the memory.
        ShapeError: For latents of another shape.
    """
    preset = recipe.preset
    latents, steps = request.latents, request.interpolate
    count = request.count
    if count is None:
        count = steps * _ROWS if steps else POINTS if preset.sample_shape == (2,) else 64
    # a picture needs a multiple of this for a while
    check_memory("count", count, 4 * math.prod(preset.sample_shape) * 8, trainer.device)
    if latents is None and steps is None:
        return sample_replicas(trainer, count, preset.labels(count), request.seed)
    state, random = trainer.state, trainer.randomness.generators(seeds_per_replica(request.seed, trainer.replicas))
    if latents is None:
        latents = first_latents(state, count // (steps or 1) + 1, random)
        latents = latents if trainer.replicas is None else latents[0]
    elif isinstance(state.latent, HasShape) and tuple(latents.shape[1:]) != tuple(state.latent.shape):
        raise ShapeError(f"latents must have the shape (N, *{tuple(state.latent.shape)}), got {tuple(latents.shape)}")
    latents = latents.to(state.device)
    latents = latents.to(state.dtype) if latents.is_floating_point() else latents
    labels = preset.labels(len(latents) if steps is None else len(latents) - 1)
    if steps is not None:
        if not latents.is_floating_point():
            raise ShapeError(f"latents to interpolate between must be floating point, got {latents.dtype}")
        latents = interpolated(latents, steps, keeps_norm=type(state.latent) is Normal)
        labels = None if labels is None else labels.repeat_interleave(steps)
    samples = generate_from(state, latents.expand(*state.value_shape, *latents.shape), labels, random, batch_size=1024)
    return samples if trainer.replicas is None else samples.flatten(0, 1)


def check_target(path: Path, sample_shape: tuple[int, ...], *, is_folder: bool) -> None:
    """Raise unless samples of this shape can be written in the form that the name of a file or folder asks for.

    Raises:
        BadValueError: For an ending that nothing can write, or a folder for points.
        ShapeError: For samples that can only be written as an array.

    Example:
        >>> check_target(Path("samples.npy"), (7,), is_folder=False)
        >>> check_target(Path("cloud.xyz"), (2,), is_folder=False)
        Traceback (most recent call last):
        gankit.errors.BadValueError: samples must be written to .npy, .png or another kind of picture that matplotlib \
writes, got 'cloud.xyz'
    """
    if not is_folder and path.suffix.lower() == ".npy":
        return
    are_points = sample_shape == (2,)
    if not are_points and (len(sample_shape) != 3 or sample_shape[0] not in (1, 3)):
        raise ShapeError(f"samples of shape {sample_shape} are no pictures; write them to a file that ends in .npy")
    if is_folder:
        if are_points:
            raise BadValueError(f"points are drawn in one picture, which needs a file, got the folder {str(path)!r}")
    elif not writes(path, as_figure=are_points):
        raise BadValueError(
            "samples must be written to .npy, .png or another kind of picture that "
            f"{'matplotlib' if are_points else 'Pillow'} writes, got {str(path)!r}"
        )


def write_samples(
    recipe: Recipe,
    samples: Tensor,
    path: Path,
    *,
    columns: int = 8,
    is_folder: bool = False,
    overwrite: bool = True,
) -> None:
    """Write samples as `check_target` permits: an array, one file per picture, a grid, or points.

    Points are drawn over real ones if no file has to be read for them: the recipe may be somebody else's.

    Args:
        recipe: The recipe of the run.
        samples: The samples, `(N, *sample_shape)`.
        path: The file, or the folder of the files `0000.png`, `0001.png`, and so on.
        columns: The number of pictures in a row of a grid.
        is_folder: Whether each picture is a file of its own in the folder.
        overwrite: Whether files are replaced.

    Raises:
        OutputExistsError: For a file that exists, if none is replaced. Nothing is written then.
        OutputError: For a file that cannot be written.
        ShapeError: For samples that are neither pictures nor points.
    """
    preset = recipe.preset
    width = max(4, len(str(len(samples) - 1)))
    files = [path / f"{index:0{width}}.png" for index in range(len(samples))] if is_folder else [path]
    found = None if overwrite else next((one for one in files if exists(one)), None)
    if found is not None:
        raise OutputExistsError(f"samples must be written to new files, got {str(found)!r}, which exists")
    if is_folder:
        save_pictures(samples, files, sample_range=preset.sample_range)
    elif path.suffix.lower() == ".npy":
        save_array(samples, path)
    elif preset.sample_shape != (2,):
        save_grid(samples, path, sample_range=preset.sample_range, columns=columns)
    elif may_read_files(preset.data):
        save_panels({preset.name: samples}, path)
    else:
        points = real_points(preset.batches(device=samples.device), recipe.seed)
        if points is None:
            save_panels({preset.name: samples}, path)
        else:
            save_points(points, samples, path)


def exists(path: Path) -> bool:
    """Return whether there is a file or a folder. A name that no file can have is left to what writes the file.

    Example:
        >>> exists(Path("x" * 1000))
        False
    """
    try:
        return path.exists() or path.is_symlink()
    except OSError:
        return False


def recipe_for_sampling(recipe: Recipe, device: torch.device | str | None) -> Recipe:
    """Return a recipe whose networks can be built for sampling on the given device, or else on its own.

    A run that was made on a device that this machine lacks is sampled on the CPU, and a `GankitWarning` says so: random
    numbers are others there.

    Example:
        >>> from gankit.presets import ring
        >>> recipe_for_sampling(Recipe(preset=ring, device="cpu"), None).device
        'cpu'
    """
    try:
        place = resolve_device(recipe.device if device is None else device)
    except DeviceError:
        if device is not None or recipe.device is None:
            raise
        warn(
            f"the run was made on {recipe.device!r}, which this machine lacks, so its samples are generated on the "
            "CPU, from other latents for the same seed",
            GankitWarning,
        )
        place = torch.device("cpu")
    changes: dict[str, Any] = {}
    if place.type != "cuda" and "cuda" in recipe.preset.execution:
        changes["execution"] = "auto"
    if place.type != "cuda" and recipe.preset.precision == "tf32":
        changes["precision"] = "float32"
    return dataclasses.replace(recipe, device=str(place), preset=recipe.preset.replace(**changes))
