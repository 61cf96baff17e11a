"""Where the command `gankit` begins: it chooses one of the commands and turns errors into exit codes.

Nothing here imports torch, so `gankit --help` answers at once. The file of a command is imported when the command is
chosen. It must hold `add_arguments(parser)`, and `run(options)`, which returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from typing_extensions import override

from gankit.cli.interrupts import TerminatedError
from gankit.cli.output import safe_output, warnings_in_one_line
from gankit.errors import GankitError
from gankit.version import __version__

COMMANDS = {
    "train": "Train a preset.",
    "sample": "Draw samples from a run.",
    "evaluate": "Score the samples of a run.",
    "compare": "Compare losses, or variants of any part, on several seeds.",
    "list": "List registered parts.",
    "show": "Show the arguments and the documentation of one part.",
}
"""The commands and what they do. Each is a file in this folder."""

INTERRUPTED = 130
TERMINATED = 143
FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after `gankit`. None takes those of the process.

    Returns:
        0 if the command did what was asked, 2 after an error, and 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP.

    Example:
        >>> main(["list", "losses", "min*"])
        minimax  Minimax: G minimises the value that D maximises (Goodfellow et al. 2014, eq. 1).
        0
    """
    with safe_output() as printed, warnings_in_one_line():
        try:
            options = build_parser().parse_args(arguments)
            code: int = options.command(options)
        except SystemExit as error:  # of --help, --version and arguments that are refused
            sys.stdout.flush()
            if error.code or not printed.is_lost:
                raise
            code = 0
        except GankitError as error:
            return _failed(str(error))
        except OSError as error:  # such as a folder that may not be read
            return _failed(": ".join(str(one) for one in (error.filename, error.strerror or error) if one is not None))
        except KeyboardInterrupt as error:
            print("gankit: interrupted", file=sys.stderr)
            return TERMINATED if isinstance(error, TerminatedError) else INTERRUPTED
        sys.stdout.flush()
        if code == 0 and printed.error is not None and printed.is_lost:
            return _failed(f"the standard output must be writable: {printed.error.strerror}")
        return code


def _failed(reason: str) -> int:
    print(f"gankit: error: {reason}", file=sys.stderr)
    return FAILED


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Example:
        >>> build_parser().parse_args(["list", "losses"]).kind
        'losses'
    """
    parser = _Parser(
        prog="gankit", description="Train generative adversarial networks that are assembled from registered parts."
    )
    parser.add_argument("--version", action="version", version=f"gankit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, command=name, help=purpose)
    return parser


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        """Print the error in one line, even if an argument with line breaks is part of it."""
        super().error(" ".join(message.split()))


class _CommandParser(_Parser):
    """The parser of one command, which imports the file of the command when it is needed."""

    def __init__(self, *, command: str, **options: Any) -> None:
        super().__init__(**options)
        self._command: str | None = command

    @override
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._command is not None:
            module = importlib.import_module(f"gankit.cli.{self._command}")
            self._command = None
            module.add_arguments(self)
            self.set_defaults(command=module.run)
        return super().parse_known_args(args, namespace)
