"""`gankit sample`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gankit.cli.arguments import expanded
from gankit.errors import BadValueError, OutputExistsError
from gankit.runs import Run
from gankit.runs.samples import Request, check_target, exists, make_samples, read_latents, write_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit sample` to its parser."""
    parser.description = (
        "Draw samples from the generator of a run: a grid of pictures, points over real ones, one file for each "
        "picture, or an array of numbers."
    )
    parser.add_argument("run", metavar="RUN", help="The folder of the run.")
    parser.add_argument(
        "--count", type=int, metavar="N", help="The number of samples. By default, 64 pictures or 2,000 points."
    )
    parser.add_argument(
        "--out",
        default="samples.png",
        metavar="FILE",
        help="The file to write: a picture, or a .npy array. Without an ending, .png is added. For a folder, or a name "
        "that ends in a slash, each picture becomes a file: 0000.png and so on. By default, samples.png.",
    )
    parser.add_argument("--force", "--overwrite", action="store_true", dest="force", help="Replace files that exist.")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="The seed of the latents. With another --count, the first samples are the same. By default, 0.",
    )
    parser.add_argument(
        "--latents", metavar="FILE", help="Latents of your own instead of random ones: a tensor in a .npy or .pt file."
    )
    parser.add_argument(
        "--interpolate",
        type=int,
        metavar="N",
        help="Draw rows of N samples, whose latents lead from one latent to the next.",
    )
    parser.add_argument("--device", metavar="DEVICE", help="The device. By default, the run's, or else the CPU.")


def run(options: argparse.Namespace) -> int:
    """Draw the samples that the options ask for."""
    trained = Run.open(expanded(options.run))
    path, is_folder = _target(options.out)
    check_target(path, trained.recipe.preset.sample_shape, is_folder=is_folder)
    if not is_folder and exists(path) and not options.force:
        raise OutputExistsError(f"--out must be a new file, got {str(path)!r}; name another, or add --force")
    latents = None if options.latents is None else read_latents(expanded(options.latents))
    request = Request(count=options.count, seed=options.seed, latents=latents, interpolate=options.interpolate)
    trainer = trained.load_trainer(options.device)
    samples = make_samples(trained.recipe, trainer, request)
    columns = options.interpolate or 8
    write_samples(trained.recipe, samples, path, columns=columns, is_folder=is_folder, overwrite=options.force)
    print(path)
    return 0


def _target(text: str) -> tuple[Path, bool]:
    """Return the file or folder that `--out` names, and whether it is a folder."""
    if not text:
        raise BadValueError("--out must be the name of a file or a folder, got ''")
    path = expanded(text)
    if text.endswith(("/", os.sep)) or _is_folder(path):
        return path, True
    return (path if path.suffix else path.with_name(f"{path.name}.png")), False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long, which writing the file reports
        return False
