"""`gankit sample`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gankit.errors import OutputExistsError
from gankit.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit sample` to its parser."""
    parser.description = "Draw samples from the generator of a run: a grid of pictures, or points over real ones."
    parser.add_argument("run", metavar="RUN", help="The folder of the run.")
    parser.add_argument(
        "--count", type=int, metavar="N", help="The number of samples. By default, 64 pictures or 2,000 points."
    )
    parser.add_argument(
        "--out", default="samples.png", metavar="FILE", help="The file to write. By default, samples.png."
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace FILE if it exists.")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="The seed of the latents. By default, 0.")
    parser.add_argument("--device", metavar="DEVICE", help="The device. By default, the run's.")


def run(options: argparse.Namespace) -> int:
    """Draw the samples that the options ask for."""
    trained = Run.open(options.run)
    file = Path(options.out)
    if _exists(file) and not options.overwrite:
        raise OutputExistsError(f"--out must be a new file, got {options.out!r}; name another, or add --overwrite")
    trainer = trained.load_trainer(options.device)
    trained.draw_samples(trainer, file, count=options.count, seed=options.seed)
    print(file)
    return 0


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long, which writing the file reports
        return False
