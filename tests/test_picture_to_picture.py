"""The program that completes digits: what the model sees, what is measured, and what it trains."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from gankit.data.digits import mnist_5k, mnist_test_2k
from tools import picture_to_picture
from tools.picture_to_picture import COLUMNS, WAYS, Settings, UNet, compare, scores_of, train, upper_half


def test_the_model_sees_nothing_of_the_lower_half():
    digits = mnist_test_2k().samples[:4] / 255
    shown = upper_half(digits)
    assert torch.equal(shown[..., :14, :], digits[..., :14, :])
    assert not shown[..., 14:, :].any()
    assert digits[..., 14:, :].any()
    assert UNet(4)(shown).shape == digits.shape


def test_originals_are_right_and_halves_are_not():
    held_out = mnist_test_2k()
    digits, labels = held_out.samples[:300] / 255, held_out.labels[:300]
    perfect = scores_of(digits, digits, labels)
    assert perfect["error"] == 0
    assert perfect["sharpness"] == 1
    assert perfect["distance"] == pytest.approx(0, abs=1e-6)
    assert perfect["kept"] > 0.95
    halves = scores_of(upper_half(digits), digits, labels)
    assert halves["error"] == pytest.approx(digits[..., 14:, :].square().mean().sqrt().item())
    assert halves["sharpness"] == 0
    assert halves["kept"] < 0.8
    assert halves["distance"] > 1


def test_a_few_steps_of_the_pixel_loss_lower_it_and_the_term_makes_another_model():
    digits = mnist_5k().samples[:256] / 255
    settings = Settings(0, steps=30, width=4, discriminator_width=4)
    torch.manual_seed(0)
    untrained = UNet(4)
    alone, with_term = (train(settings, digits, has_term=has_term) for has_term in (False, True))

    def loss(model: UNet) -> float:
        with torch.no_grad():
            return F.l1_loss(model(upper_half(digits)), digits).item()

    assert max(loss(alone), loss(with_term)) < 0.8 * loss(untrained)
    assert not torch.equal(alone.last.weight, with_term.last.weight)


def test_a_whole_comparison_prints_a_table_and_draws_a_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    whole = mnist_test_2k()
    few = type(whole)(whole.samples[:100], whole.labels[:100])
    monkeypatch.setattr(picture_to_picture, "mnist_test_2k", lambda: few)
    compare([Settings(seed, steps=2, batch=4, width=4, discriminator_width=4) for seed in range(2)], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| originals",
        "| upper halves",
        *(f"| {way}" for way in WAYS),
    ]
    scores = json.loads((tmp_path / "1" / "result.json").read_text(encoding="utf-8"))["scores"]
    assert all(one.keys() == COLUMNS.keys() for one in scores.values())
    assert (tmp_path / "picture-to-picture.png").read_bytes().startswith(b"\x89PNG")
