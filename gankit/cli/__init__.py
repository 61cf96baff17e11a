"""The command `gankit`: `train`, `sample`, `compare`, `list` and `show`, each in a file of its own."""

from gankit.cli.entry import build_parser, main
from gankit.cli.registries import REGISTRIES

__all__ = ["REGISTRIES", "build_parser", "main"]
