"""Losses are compared on several seeds, and what is done is kept."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit import Preset, Spec
from gankit.compare import Comparison, Entry, Outcome
from gankit.errors import BadValueError, OutputError, OutputExistsError, UnknownNameError
from gankit.metrics import Score
from gankit.presets import ring, vanilla_mnist
from gankit.training import AdversarialTrainer

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
    assert all(0 <= one.scores["captured_modes"].value <= 8 for one in seen)
    content = json.loads(Path("out/results.json").read_text())
    assert content["format"] == 2
    assert content["outcomes"] == [one.to_dict() for one in seen]
    assert list(content["differences"]) == ["non_saturating"]
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
    assert (outcome.figures, outcome.scores) == (again.figures, again.scores)
    assert comparison._trainer is not None
    for mine, theirs in zip(comparison._trainer.generator.parameters(), trainer.generator.parameters(), strict=True):
        assert torch.equal(mine, theirs)


class Brightness:
    """An evaluator of pictures that looks at their mean alone."""

    samples = 8

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, samples: torch.Tensor) -> dict[str, Score]:
        self.calls += 1
        assert samples.shape == (self.samples, 1, 28, 28)
        return {"brightness": Score(float(samples.mean()), real=0.13, better="lower", samples=self.samples)}


PICTURES = vanilla_mnist.replace(
    steps=2, batch_size=8, generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8])
)


def test_any_evaluator_can_score_the_samples():
    entries = [Entry(), Entry(averaging_decay=0.5), Entry(num_classes=10)]
    comparison = Comparison("out", PICTURES, entries, seeds=[0, 1], device="cpu", evaluator=Brightness())
    plain, averaged, conditional, *_ = comparison.run()
    assert plain.evaluation is not None
    assert averaged.evaluation is not None
    assert (list(plain.evaluation.scores), list(averaged.evaluation.scores)) == (["raw"], ["raw", "averaged"])
    assert averaged.scores == averaged.evaluation.scores["averaged"][0]
    assert conditional.scores["brightness"].real == 0.13
    assert "| real samples |  | 0.13 |" in comparison.table()
    content = json.loads(Path("out/results.json").read_text())
    assert content["differences"]["num_classes=10"]["brightness"]["seeds"] == 2
    with Image.open("out/comparison.png") as picture:
        assert picture.width == 900


def test_without_a_metric_the_last_losses_are_compared(monkeypatch):
    monkeypatch.setattr("gankit.compare.comparison.evaluator_for", lambda preset, batches: None)
    comparison = compared("minimax", preset=PICTURES)
    (outcome,) = comparison.run()
    assert list(outcome.figures) == ["discriminator_loss", "generator_loss", "real_score", "fake_score"]
    assert all(math.isfinite(value) for value in outcome.figures.values())
    assert outcome.scores == {}
    assert "| entry | seeds | discriminator_loss | generator_loss | real_score | fake_score |" in comparison.table()
    with Image.open("out/comparison.png") as picture:
        assert picture.width == 300


def test_a_training_that_diverges_is_counted_and_does_not_end_the_comparison():
    wild = Spec("sgd", lr=1e38)
    entries = [Entry(), Entry(loss="wasserstein", generator_optimizer=wild, discriminator_optimizer=wild)]
    comparison = Comparison("out", TINY, entries, seeds=[0, 1], device="cpu")
    assert [outcome.has_diverged for outcome in comparison.run()] == [False, True, False, True]
    assert {one.verdict for one in comparison.differences()[entries[1].label].values()} == {"worse"}
    assert "2, 2 diverged" in comparison.table()
    assert json.loads(Path("out/results.json").read_text())["outcomes"][1]["has_diverged"] is True


# --- the expected duration -------------------------------------------------------------------------------


def test_the_expected_duration_is_said_once_before_the_first_result(monkeypatch):
    monkeypatch.setattr("gankit.compare.forecast.time", Clock(seconds_per_look=2.0))
    said: list[object] = []
    evaluator = Brightness()
    entries = [Entry(steps=20), Entry(steps=30)]
    comparison = Comparison("out", PICTURES, entries, seeds=[0, 1], device="cpu", evaluator=evaluator)
    comparison.run(lambda outcome: said.append(outcome.label), lambda seconds: said.append(seconds))
    first, *others = said
    # the clock is read at the first step, at the second one, and when that is found to be enough: 4 s for one step
    assert first == pytest.approx(4.0 * 2 * (20 + 30), rel=0.1)
    assert others == ["steps=20", "steps=30"] * 2
    assert evaluator.calls == 5  # once before training, so that a mistake shows at once


class Clock:
    """A clock that goes on with every look at it."""

    def __init__(self, seconds_per_look: float) -> None:
        self.seconds_per_look = seconds_per_look
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += self.seconds_per_look
        return self.now


def test_a_forecast_changes_no_result():
    without = compared("minimax", seeds=[0, 1]).run()
    with_forecast = compared("minimax", seeds=[0, 1], folder="again").run(None, lambda seconds: None)
    assert [one.scores for one in without] == [one.scores for one in with_forecast]
    assert [one.figures for one in without] == [one.figures for one in with_forecast]


def test_an_evaluator_that_fails_does_so_before_anything_is_trained(monkeypatch):
    class Broken(Brightness):
        def __call__(self, samples: torch.Tensor) -> dict[str, Score]:
            raise ZeroDivisionError

    monkeypatch.setattr(AdversarialTrainer, "fit", lambda *arguments, **options: pytest.fail("trained"))
    comparison = Comparison("out", PICTURES, [Entry()], device="cpu", evaluator=Broken())
    with pytest.raises(ZeroDivisionError):
        comparison.run(None, lambda seconds: None)


# --- endings ---------------------------------------------------------------------------------------------


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
