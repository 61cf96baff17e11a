"""The commands on a discriminator of a user's own that judges points with two heads, and matches features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from gankit import DISCRIMINATORS, Answer
from gankit.cli import main

TINY = ["--generator", "mlp:widths=[8]", "--batch-size", "16", "--device", "cpu", "--steps", "4"]


class TwoHeads(nn.Module):
    """Judges a point as a whole and three directions of it."""

    def __init__(self, sample_shape, *, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(*sample_shape, width), nn.Tanh())
        self.whole, self.directions = nn.Linear(width, 1), nn.Linear(width, 3)

    def forward(self, x):
        hidden = self.body(x)
        return Answer(heads=(self.whole(hidden).squeeze(1), self.directions(hidden)), features=[hidden])


@pytest.fixture(autouse=True)
def two_heads():
    DISCRIMINATORS.register("two_heads", TwoHeads)
    yield
    del DISCRIMINATORS._factories["two_heads"]


def rows():
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("replicas", [[], ["--replicas", "2"]], ids=["one", "replicas"])
def test_a_run_reports_each_head_and_their_sum(capsys, replicas):
    parts = ["--discriminator", "two_heads:width=4", "--regularizer", "r1:every=2", "--regularizer", "feature_matching"]
    options = [*TINY, *replicas, *parts, "--log-every-steps", "2", "--sample-every-steps", "4"]
    assert main(["train", "ring", *options, "--out", "run"]) == 0
    (first, last), said = rows(), capsys.readouterr()
    assert first.keys() == last.keys()
    for row in (first, last):
        for name in ("discriminator_loss", "generator_loss"):
            assert row[name] == pytest.approx(row[f"{name}/head0"] + row[f"{name}/head1"], rel=1e-5)
        for name in ("real_score", "fake_score", "real_accuracy", "fake_accuracy"):
            assert row[name] == pytest.approx((row[f"{name}/head0"] + row[f"{name}/head1"]) / 2, rel=1e-5, abs=1e-6)
        assert {"penalty/r1", "penalty/feature_matching"} <= row.keys()
        assert "discriminator_loss/head2" not in row
    assert "4 of 4 steps done" in said.out
    assert f"D(x) {last['real_score']:.2f}" in said.err
    for picture in ("run/curves.png", "run/samples/step_0000004.png"):
        with Image.open(picture) as opened:
            assert opened.width > 100
    if replicas:
        assert "discriminator_loss/head1" in said.out  # in the table of means over replicas


def test_a_run_with_heads_is_resumed_to_the_same_metrics():
    parts = ["--discriminator", "two_heads", "--regularizer", "lecam", "--no-learning-rate-decay"]
    options = [*TINY, *parts, "--no-progress", "--log-every-steps", "1"]
    assert main(["train", "ring", *options, "--out", "run"]) == 0
    whole = rows()
    Path("run").rename("whole")
    assert main(["train", "ring", *options, "--steps", "2", "--out", "run"]) == 0
    assert main(["train", "--resume", "run", "--steps", "4", "--no-progress"]) == 0
    assert rows() == whole


def test_variants_with_heads_are_compared(capsys):
    command = ["compare", "ring", "--variant", "unchanged", "--variant", "discriminator=two_heads", *TINY]
    assert main([*command, "--seeds", "1", "--no-progress", "--out", "out"]) == 0
    assert "discriminator=two_heads" in capsys.readouterr().out
