"""The program that enlarges photographs: what is measured, and that both ways begin with the same model."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from tools import super_resolution
from tools.super_resolution import WAYS, Enlarger, Settings, Training, adversary_of, compare, cut, reduced, scores_of

SMALL = Settings(0, discriminator_start=1, start=2, steps=4, batch=2, side=16, width=4, blocks=1, discriminator_width=4)


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_a_new_model_enlarges_what_it_gets(pictures):
    torch.manual_seed(0)
    model = Enlarger(4, 2)
    assert model(reduced(pictures)).shape == pictures.shape
    for parameter in model.enlarge[-1].parameters():
        torch.nn.init.zeros_(parameter)  # without its correction, it is the bilinear enlargement
    grey = torch.full((1, 3, 5, 7), 0.3)
    torch.testing.assert_close(model(grey), torch.full((1, 3, 20, 28), 0.3))
    assert torch.equal(reduced(torch.arange(16.0).view(1, 1, 4, 4)), torch.full((1, 1, 1, 1), 7.5))


def test_squares_are_cut_at_random_places_the_same_for_a_whole_batch(pictures):
    marked = torch.arange(24.0 * 24).view(1, 1, 24, 24).expand(5, 1, 24, 24)
    random = torch.Generator().manual_seed(0)
    squares = [cut(marked, 16, random) for _ in range(20)]
    assert all(square.shape == (5, 1, 16, 16) and (square == square[:1]).all() for square in squares)
    corners = [divmod(int(square[0, 0, 0, 0]), 24) for square in squares]
    assert len(set(corners)) > 10
    assert max(max(corner) for corner in corners) <= 8


def test_scores_of_the_originals_are_perfect_and_a_blur_is_seen(pictures):
    perfect = scores_of(pictures, pictures)
    assert perfect == {"error": 0.0, "sharpness": 1.0, "distance": pytest.approx(0, abs=1e-6)}
    blurred = scores_of(torch.nn.functional.avg_pool2d(pictures, 3, stride=1, padding=1), pictures)
    assert blurred["sharpness"] < 0.5
    assert blurred["error"] > 0.1
    assert blurred["distance"] > 0.01


def test_the_term_changes_the_model_from_its_start_on_alone(pictures):
    batches = [pictures[:2, :, :16, :16], pictures[2:4, :, :16, :16], pictures[4:, :, :16, :16]]
    torch.manual_seed(0)
    begun = Training(SMALL)
    alone, with_term = copy.deepcopy(begun), copy.deepcopy(begun)
    alone.advance(batches[:1], range(1, 2), None, 1e-3)
    adversary = adversary_of(SMALL)
    before = copy.deepcopy(adversary.state_dict())
    with_term.advance(batches[:1], range(1, 2), adversary, 1e-3)
    assert all(map(torch.equal, alone.model.parameters(), with_term.model.parameters()))
    assert not torch.equal(before["discriminator.last.2.weight"], adversary.state_dict()["discriminator.last.2.weight"])
    alone.advance(batches[1:], range(2, 4), None, 1e-3)
    with_term.advance(batches[1:], range(2, 4), adversary, 1e-3)
    assert not torch.equal(alone.model.first.weight, with_term.model.first.weight)


def test_a_whole_comparison_prints_a_table_and_draws_a_picture(tmp_path, monkeypatch, capsys, pictures):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(super_resolution, "samples", lambda: (pictures, pictures[:5]))
    compare([SMALL, replace(SMALL, seed=1)], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| originals", "| bicubic", *(f"| {way}" for way in WAYS)]
    assert "±" in lines[-1]
    assert (tmp_path / "super-resolution.png").read_bytes().startswith(b"\x89PNG")


def test_the_photographs_are_there():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image: pip install scikit-image")
    learned, held_out = super_resolution.samples()
    assert learned.shape[1:] == held_out.shape[1:] == (3, 64, 64)
    assert len(held_out) == super_resolution.MEASURED
