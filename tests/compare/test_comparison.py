"""Losses are compared on several seeds, and what is done is kept."""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit import Preset, Spec
from gankit.compare import Comparison, Entry, Outcome
from gankit.errors import BadValueError, OutputError, OutputExistsError, UnknownNameError
from gankit.presets import ring, vanilla_mnist

TINY = ring.replace(
    steps=3, batch_size=8, generator=Spec("mlp", widths=[8], block="linear_relu"), discriminator=Spec("mlp", widths=[8])
)


def compared(*texts: str, folder: str = "out", preset: Preset = TINY, seeds=(0,)) -> Comparison:
    return Comparison(folder, preset, [Entry.parse(text) for text in texts], seeds=seeds, device="cpu")


# --- a comparison ----------------------------------------------------------------------------------------


def test_every_entry_is_trained_on_every_seed_and_all_is_written():
    comparison = compared("minimax+none", "non_saturating", seeds=[3, 4])
    seen: list[Outcome] = []
    assert comparison.run(seen.append) == seen == comparison.outcomes
    done = [(one.label, one.seed) for one in seen]
    assert done == [("minimax+none", 3), ("non_saturating", 3), ("minimax+none", 4), ("non_saturating", 4)]
    assert all(0 <= one.figures["captured_modes"] <= 8 for one in seen)
    content = json.loads(Path("out/results.json").read_text())
    assert [Outcome(**form) for form in content["outcomes"]] == seen
    assert Preset.from_dict(content["preset"]) == TINY
    assert content["environment"]["torch"] == torch.__version__
    assert Path("out/table.md").read_text() == comparison.table()
    with Image.open("out/comparison.png") as picture:
        assert picture.width == 600  # two panels


def test_the_figures_are_those_of_the_trainer_alone():
    comparison = compared("minimax+none")
    (outcome,) = comparison.run()
    preset = TINY.replace(loss="minimax", regularizers=())
    trainer = preset(device="cpu", seed=0).fit(preset.batches(device="cpu", seed=0), steps=3)
    again = compared("minimax+none", folder="again").run()[0]
    assert outcome.figures == again.figures
    assert comparison._trainer is not None
    for mine, theirs in zip(comparison._trainer.generator.parameters(), trainer.generator.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_table_holds_means_and_deviations_over_seeds():
    comparison = compared("minimax", "hinge", "wasserstein", seeds=[0, 1, 2])
    shares, divergences = [0.5, 0.75, 1.0], [0.25, None, 0.75]
    for seed, (share, divergence) in enumerate(zip(shares, divergences, strict=True)):
        figures = {"captured_modes": 8, "modes": 8, "high_quality_share": share, "reverse_kl": divergence}
        comparison.outcomes.append(Outcome("minimax", seed, 1.0, figures))
    comparison.outcomes.append(
        Outcome("hinge", 0, 1.0, {"captured_modes": 7, "modes": 8, "high_quality_share": 0.5, "reverse_kl": None})
    )
    deviation = statistics.stdev([0.25, 0.75])
    assert comparison.table().splitlines() == [
        "| entry | seeds | captured modes | high quality, % | reverse KL |",
        "|---|---|---|---|---|",
        f"| `minimax` | 3 | 8.0 ± 0.0 | 75.0 ± 25.0 | 0.500 ± {deviation:.3f} (2 of 3) |",
        "| `hinge` | 1 | 7.0 | 50.0 | – |",
        "| `wasserstein` | 0 | – | – | – |",
    ]


def test_without_modes_the_last_losses_and_scores_are_compared():
    preset = vanilla_mnist.replace(steps=2, batch_size=8, generator=Spec("mlp", widths=[8]), discriminator="mlp")
    comparison = compared("minimax", preset=preset)
    (outcome,) = comparison.run()
    assert list(outcome.figures) == ["discriminator_loss", "generator_loss", "real_score", "fake_score"]
    assert all(math.isfinite(value) for value in outcome.figures.values())
    assert "| entry | seeds | discriminator loss | generator loss | real score | fake score |" in comparison.table()
    with Image.open("out/comparison.png") as picture:
        assert picture.width == 300


def test_a_training_that_diverges_is_counted_and_does_not_end_the_comparison():
    wild = TINY.replace(generator_optimizer=Spec("sgd", lr=1e38), discriminator_optimizer=Spec("sgd", lr=1e38))
    (outcome,) = compared("wasserstein+none", preset=wild).run()
    assert outcome.figures["captured_modes"] == 0
    assert outcome.figures["reverse_kl"] is None
    assert json.loads(Path("out/results.json").read_text())["outcomes"][0]["figures"]["reverse_kl"] is None


def test_stopping_keeps_what_is_done_and_leaves_out_what_is_not():
    comparison = compared("minimax", "non_saturating", seeds=[0, 1])

    def stop_after_one(outcome: Outcome) -> None:
        comparison.stop()

    assert len(comparison.run(stop_after_one)) == 1
    assert len(json.loads(Path("out/results.json").read_text())["outcomes"]) == 1
    assert "| `non_saturating` | 0 | – |" in Path("out/table.md").read_text()
    assert Path("out/comparison.png").exists()


def test_a_folder_with_something_in_it_is_left_alone():
    Path("out").mkdir()
    Path("out/mine").write_text("mine")
    with pytest.raises(OutputExistsError, match="must be new or empty, got 'out' with files in it"):
        compared("minimax").run()
    assert [path.name for path in Path("out").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_reported():
    Path("file").write_text("")
    with pytest.raises(OutputError, match="the comparison's folder must be writable, got 'file/out'"):
        compared("minimax", folder="file/out").run()


def test_a_mistake_in_the_last_entry_is_found_before_anything_is_trained():
    with pytest.raises(UnknownNameError, match="Did you mean 'hinge'"):
        compared("minimax", "hinje").run()
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("texts", "seeds", "says"),
    [
        ((), (0,), "entries to compare must be one or more, got none"),
        (("minimax",), (), "seeds to compare must be one or more, got none"),
        (("minimax", "minimax"), (0,), "entries to compare must be different, got minimax, minimax"),
        (("minimax",), (1, 1), "seeds to compare must be different, got 1, 1"),
    ],
)
def test_what_is_nothing_or_twice_is_refused(texts, seeds, says):
    with pytest.raises(BadValueError, match=says):
        compared(*texts, seeds=seeds)


def test_without_matplotlib_the_table_is_written_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.warns(UserWarning, match=r"comparison.png is missing: .*gankit\[plots\]"):
        compared("minimax").run()
    assert Path("out/table.md").exists()
