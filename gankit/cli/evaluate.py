"""`gankit evaluate`."""

from __future__ import annotations

import argparse

from gankit.cli.arguments import expanded
from gankit.runs import evaluate_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit evaluate` to its parser."""
    parser.description = (
        "Score samples of a run, of the generator's own weights (raw) and of their average, beside real samples. The "
        "table is printed, and evaluation.json in the run's folder is replaced."
    )
    parser.add_argument("run", metavar="RUN", help="The folder of the run.")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="The folder of the data that samples are compared with. By default, that of the run's data.",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="The seed of the latents. By default, the run's.")
    parser.add_argument("--device", metavar="DEVICE", help="The device. By default, the run's, or else the CPU.")


def run(options: argparse.Namespace) -> int:
    """Evaluate as the options ask for."""
    folder = expanded(options.run)
    root = None if options.root is None else expanded(options.root)
    print(evaluate_run(folder, root=root, device=options.device, seed=options.seed).table())
    print(folder / "evaluation.json")
    return 0
