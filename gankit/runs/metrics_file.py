"""`metrics.jsonl`: one line of metrics for each step that was logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from gankit.errors import GankitWarning, warn


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Return the lines of a `metrics.jsonl`, or none if there is no such file.

    A line that is not the metrics of a step, such as a note that somebody added, is left out with a `GankitWarning`.

    Example:
        >>> read_metrics(Path("nowhere"))
        []
    """
    if not file.is_file():
        return []
    rows: list[dict[str, float]] = []
    others: list[int] = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if _is_row(row):
            rows.append(row)
        else:
            others.append(number)
    if others:
        which = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        warn(
            f"every line of {file} must be the metrics of a step, got others, which are left out: {which}",
            GankitWarning,
        )
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    values = cast("dict[str, Any]", row)
    return type(values.get("step")) is int and all(isinstance(one, int | float | None) for one in values.values())
