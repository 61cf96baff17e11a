"""What the programs have in common that train a model in several ways, on several seeds, and compare what it makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from gankit.files import write_text
from tools.compare_autoencoders import mean_and_spread, row

Result = tuple[dict[str, dict[str, float]], dict[str, Tensor]]
"""For each way the scores of its training, and some of what its model makes."""


def once(folder: Path, settings: Any, train: Callable[[], Result]) -> Result:
    """Return the result of a training, from its folder if it is there; otherwise train, and write it.

    Args:
        folder: Where `result.json` and `made.safetensors` are.
        settings: A dataclass of all that the training depends on. A folder that holds the result of others ends the
            program.
        train: The training, in all ways.
    """
    result, made = folder / "result.json", folder / "made.safetensors"
    wanted = json.loads(json.dumps(asdict(settings)))
    if result.exists():
        found = json.loads(result.read_text(encoding="utf-8"))
        if found["settings"] != wanted:
            sys.exit(f"{result} is of a training with other settings; give another --out, or remove it")
        return found["scores"], load_file(made)
    scores, tensors = train()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, made)
    write_text(result, json.dumps({"settings": wanted, "scores": scores}, indent=1), "the results")
    return scores, tensors


def table(columns: Mapping[str, str], rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return a table in Markdown, with the mean and the standard deviation of each row's scores.

    Args:
        columns: The heading of each score.
        rows: For each row the scores of one or several trainings. A score that is missing leaves its cell empty.

    Example:
        >>> print(table({"error": "error ↓"}, {"one": [{"error": 0.1}, {"error": 0.3}], "two": [{"error": 0.5}]}))
        |  | error ↓ |
        | --- | --- |
        | one | 0.20 ± 0.14 |
        | two | 0.5 |
    """
    lines = [row("", *columns.values()), row(*["---"] * (len(columns) + 1))]
    for name, scores in rows.items():
        lines.append(row(name, *(_cell([one[key] for one in scores if key in one]) for key in columns)))
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    return mean_and_spread(values) if len(values) > 1 else f"{values[0]:.3g}"


def draw_rows(rows: Mapping[str, Tensor], path: Path, *, inches: float = 0.8) -> None:
    """Draw rows of pictures, each with its name to the left.

    Args:
        rows: For each name pictures `(N, C, H, W)` in [0, 1], as many in each row.
        path: Where the drawing is written.
        inches: The side of a picture in the drawing, which has 100 pixels per inch.
    """
    from matplotlib.figure import Figure

    count = max(map(len, rows.values()))
    figure = Figure(figsize=(1.9 + inches * count, inches * len(rows)), layout="constrained")
    for ax, (name, pictures) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows.items(), strict=True):
        strip = F.pad(pictures, (1, 1, 1, 1), value=1.0).permute(2, 0, 3, 1).flatten(1, 2).clamp(0, 1)
        ax.imshow(strip.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        ax.text(-0.1 * strip.shape[0], strip.shape[0] / 2, name.replace("`", ""), ha="right", va="center", fontsize=11)
    figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.05)
