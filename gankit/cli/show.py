"""`gankit show`."""

from __future__ import annotations

import argparse

from gankit.cli.registries import REGISTRIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit show` to its parser."""
    parser.description = "Show the arguments and the documentation of one part."
    parser.add_argument("kind", choices=REGISTRIES, metavar="KIND", help=f"One of {', '.join(REGISTRIES)}.")
    parser.add_argument("name", metavar="NAME", help="A name from `gankit list KIND`.")


def run(options: argparse.Namespace) -> int:
    """Show the part that the options name."""
    registry = REGISTRIES[options.kind]
    print(f"{options.name}{registry.signature(options.name)}\n\n{registry.documentation(options.name)}".rstrip())
    return 0
