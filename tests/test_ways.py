"""What the programs share that train a model in several ways: results that are kept, and their tables and drawings."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from tools.ways import draw_rows, once, table


@dataclass(frozen=True)
class Settings:
    seed: int
    widths: tuple[int, ...] = (4, 8)


def test_a_training_is_done_once_and_other_settings_are_refused(tmp_path):
    done = []

    def train():
        done.append(1)
        return {"one": {"error": 0.5}}, {"one": torch.arange(6.0).view(2, 3).T}

    scores, made = once(tmp_path / "0", Settings(0), train)
    again, made_again = once(tmp_path / "0", Settings(0), train)
    assert len(done) == 1
    assert scores == again == {"one": {"error": 0.5}}
    assert torch.equal(made["one"], made_again["one"])
    with pytest.raises(SystemExit, match="other settings"):
        once(tmp_path / "0", Settings(1), train)
    once(tmp_path / "1", Settings(1), train)
    assert len(done) == 2


def test_a_table_has_mean_and_deviation_of_several_and_the_number_of_one():
    rows = {"originals": [{"error": 0.0}], "made": [{"error": 0.2, "seconds": 1.0}, {"error": 0.4, "seconds": 3.0}]}
    assert table({"error": "error ↓", "seconds": "s"}, rows).splitlines() == [
        "|  | error ↓ | s |",
        "| --- | --- | --- |",
        "| originals | 0 |  |",
        "| made | 0.30 ± 0.14 | 2.0 ± 1.4 |",
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_grey_and_coloured_pictures_are_drawn(tmp_path, channels):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "rows.png"
    white, black = torch.ones(4, channels, 8, 8), torch.zeros(4, channels, 8, 8)
    draw_rows({"white": white, "with `unet`": black}, path)
    dark = image.imread(path)[..., :3].max(-1) < 0.05
    height = len(dark)
    assert dark[: height // 2].mean() < 0.05  # the name alone
    assert dark[height // 2 :].mean() > 0.3
