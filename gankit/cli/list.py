"""`gankit list`."""

from __future__ import annotations

import argparse

from gankit.cli.registries import REGISTRIES, part_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit list` to its parser."""
    parser.description = "List the names of all parts, or the parts of one kind with a sentence about each."
    parser.add_argument("kind", nargs="?", choices=REGISTRIES, metavar="KIND", help=f"One of {', '.join(REGISTRIES)}.")
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="A pattern with shell wildcards: 'min*'."
    )


def run(options: argparse.Namespace) -> int:
    """List the parts that the options ask for."""
    if options.kind is None:
        width = max(map(len, REGISTRIES))
        for kind in REGISTRIES:
            print(f"{kind:{width}}  {', '.join(part_names(kind))}")
        return 0
    registry = REGISTRIES[options.kind]
    names = registry.names(options.pattern)
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:{width}}  {registry.summary(name)}".rstrip())
    return 0
