"""The lines of `metrics.jsonl`: one JSON object with its step per line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gankit.errors import GankitWarning, OutputError, OutputExistsError, warn
from gankit.files import not_writable, open_regular, parse_json, write_text

_BEGINNING = b'{"step": '


@dataclass(frozen=True)
class Line:
    """One line of the file.

    Args:
        text: The line with its end.
        row: The metrics that it holds, with the step.
    """

    text: str
    row: dict[str, Any]


def read_lines(path: Path, *, is_own: bool = False) -> tuple[list[Line], bool]:
    r"""Return the lines of a log of metrics, and whether there is more, such as a line that was cut off.

    Args:
        path: The file.
        is_own: Whether the file is known to be the log of this training, so that other lines were added to it.

    Raises:
        OutputExistsError: For a file that holds something else.
        OutputError: For a file that cannot be read.

    Example:
        >>> _ = Path("metrics.jsonl").write_text('{"step": 5, "generator_loss": 0.7}\n{"step": 10, "gener')
        >>> lines, has_more = read_lines(Path("metrics.jsonl"))
        >>> [line.row["step"] for line in lines], has_more
        ([5], True)
    """
    try:
        with open_regular(path) as file:
            texts = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return [], False
    except ValueError as error:
        raise refusal(path, str(error)) from None
    except OSError as error:
        raise OutputError(not_writable("the log of the metrics", path, error)) from error
    lines: list[Line] = []
    for number, text in enumerate(texts, 1):
        is_cut_off = not text.endswith(b"\n") and _BEGINNING.startswith(text[: len(_BEGINNING)])
        try:
            row = parse_json(text)
            if not text.endswith(b"\n") or not _is_row(row):
                raise ValueError
            lines.append(Line(text.decode(), cast("dict[str, Any]", row)))
        except ValueError:
            if not is_cut_off and not is_own:
                raise refusal(path, f"something else in line {number}") from None
    return lines, len(lines) < len(texts)


def _is_row(row: Any) -> bool:
    if type(row) is not dict:
        return False
    values = cast("dict[str, Any]", row)
    return type(values.get("step")) is int and all(isinstance(one, int | float | None) for one in values.values())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log of metrics, or none if there is no such file.

    Other lines, such as a note that somebody added, are left out with a `GankitWarning`.

    Raises:
        OutputExistsError: For something else than a file.
        OutputError: For a file that cannot be read.

    Example:
        >>> read_metrics(Path("nowhere"))
        []
    """
    lines, has_more = read_lines(path, is_own=True)
    if has_more:
        warn(f"every line of {path} must be the metrics of a step, got others, which are left out", GankitWarning)
    return [line.row for line in lines]


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    r"""Replace the file by these lines.

    Example:
        >>> write_lines(Path("metrics.jsonl"), [Line('{"step": 5}\n', {"step": 5})])
        >>> Path("metrics.jsonl").read_text()
        '{"step": 5}\n'
    """
    write_text(path, "".join(line.text for line in lines), "the log of the metrics")


def lines_until(
    path: Path, step: int, known: Mapping[float, Mapping[str, Any]], *, is_own: bool, was_resumed: bool
) -> list[Line]:
    r"""Return the lines up to a step, after the later ones were removed from the file.

    Args:
        path: The file.
        step: The step up to which lines are kept.
        known: The rows of this training by their steps, as far as it has them.
        is_own: Whether the file is known to be the log of this training.
        was_resumed: Whether the training was continued from a saved state, so that its log may be there already.

    Raises:
        OutputExistsError: For a file with lines of another training, or with something else.
        OutputError: For a file that cannot be read or written.

    Example:
        >>> write_lines(Path("log.jsonl"), [Line(f'{{"step": {step}}}\n', {"step": step}) for step in (5, 10)])
        >>> [line.row["step"] for line in lines_until(Path("log.jsonl"), 5, {}, is_own=True, was_resumed=False)]
        [5]
        >>> Path("log.jsonl").read_text()
        '{"step": 5}\n'
    """
    lines, has_more = read_lines(path, is_own=is_own)
    if lines and not is_own:
        differs = any(known.get(line.row["step"], line.row) != line.row for line in lines)
        if not was_resumed or differs:
            raise refusal(path, "lines of another training")
    kept = [line for line in lines if line.row["step"] <= step]
    if len(kept) < len(lines) or has_more:
        write_lines(path, kept)
    return kept


def refusal(path: Path, found: str) -> OutputExistsError:
    """Return the error for a file that is not the log of this training.

    Example:
        >>> str(refusal(Path("notes.txt"), "lines of another training"))
        "the log of the metrics must be a new file or that of this training, got 'notes.txt' with lines of another \
training; name another file"
    """
    return OutputExistsError(
        f"the log of the metrics must be a new file or that of this training, got {str(path)!r} with {found}; name "
        "another file"
    )
