from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gankit.data import DATASETS, TensorData
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointNotFoundError,
    DataNotFoundError,
    GankitWarning,
    OutputError,
)
from gankit.locks import FolderLock
from gankit.metrics import Evaluation, MixtureEvaluator, MnistEvaluator, Score, StackedMnistEvaluator
from gankit.presets import ring, vanilla_mnist
from gankit.runs import Recipe, Run, evaluate_run, evaluated, evaluator_for
from gankit.runs.evaluation import digits_evaluator
from gankit.spec import Spec

TINY = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    steps=6,
)


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    """Leave out what takes most of the time of so short a run."""
    monkeypatch.setattr(Run, "_pictures", lambda self, batches: None)
    monkeypatch.setattr(Run, "_draw_curves", lambda self: None)


def train(folder="run", preset=TINY, **options) -> Run:
    run = Run(folder, Recipe(preset=preset, **{"device": "cpu", "seed": 1, "log_every_steps": 2} | options))
    run.train(progress=False)
    return run


def written(folder="run") -> Evaluation:
    return Evaluation.from_dict(json.loads(Path(folder, "evaluation.json").read_text()))


def lines(folder="run") -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(folder, "evaluations.jsonl").read_text().splitlines()]


# --- which evaluator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["ring", Spec("grid", side=3)])
def test_samples_of_a_mixture_are_scored_by_its_modes(data):
    preset = TINY.replace(data=data)
    for evaluator in (evaluator_for(preset), evaluator_for(preset, preset.batches(device="cpu"))):
        assert isinstance(evaluator, MixtureEvaluator)
        assert len(evaluator.mixture.modes) == (8 if data == "ring" else 9)


def test_data_that_nothing_scores_have_no_evaluator():
    assert evaluator_for(TINY.replace(data="two_moons")) is None


@pytest.mark.parametrize(
    ("data", "root", "expected"),
    [
        ("mnist_5k", None, None),
        ("mnist_5k", "given", "given"),
        ("mnist", None, "data"),
        (Spec("mnist", root="own", stop=50_000), None, "own"),
        (Spec("mnist", root="own"), "given", "given"),
    ],
)
def test_digits_are_compared_with_those_in_their_folder(data, root, expected):
    preset = vanilla_mnist.replace(data=data, sample_range=(-1.0, 1.0))
    evaluator = digits_evaluator(preset, root)
    assert isinstance(evaluator, MnistEvaluator)
    assert (evaluator.root, evaluator.sample_range) == (expected, (-1.0, 1.0))
    assert evaluator.samples == (2_000 if expected is None else 10_000)


def test_stacked_digits_are_scored_by_their_modes():
    preset = vanilla_mnist.replace(data="stacked_mnist", sample_shape=(3, 28, 28))
    assert isinstance(digits_evaluator(preset), StackedMnistEvaluator)


@pytest.mark.parametrize("changes", [{"data": "fashion_mnist"}, {"sample_shape": (1, 32, 32)}, {"sample_range": None}])
def test_other_pictures_are_not_scored(changes):
    assert digits_evaluator(vanilla_mnist.replace(**changes)) is None


def test_a_run_on_digits_is_scored_at_its_end(monkeypatch):
    monkeypatch.setattr("gankit.runs.evaluation.digits_evaluator", digits_evaluator)
    tiny = vanilla_mnist.replace(generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), steps=1)
    (found,) = train(preset=tiny).evaluations
    assert found.metrics[0] == "mnist_frechet_distance"
    assert found.mean("mnist_classes").real == 10


def test_a_training_is_written_though_its_samples_cannot_be_scored(monkeypatch):
    def missing(self, samples):
        raise DataNotFoundError("the test digits are missing")

    monkeypatch.setattr(MixtureEvaluator, "__call__", missing)
    with pytest.warns(GankitWarning, match="the samples are not scored: the test digits are missing"):
        run = train()
    assert run.evaluations == []
    assert Path("run/generator.safetensors").exists()


def test_no_file_is_read_to_find_an_evaluator():
    @DATASETS.register("from_a_file")
    def from_a_file(root: str = "points"):
        raise AssertionError

    try:
        assert evaluator_for(TINY.replace(data="from_a_file")) is None
    finally:
        del DATASETS._factories["from_a_file"]


# --- a run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, 2])
def test_a_run_ends_with_an_evaluation_of_raw_and_averaged_weights(replicas):
    run = train(replicas=replicas)
    (found,) = run.evaluations
    assert written() == found
    assert found.step == 6
    assert list(found.scores) == ["raw", "averaged"]
    assert [len(one) for one in found.scores.values()] == [replicas or 1] * 2
    assert not Path("run/evaluations.jsonl").exists()


def test_a_run_is_evaluated_every_few_steps_and_trains_as_without():
    run = train(evaluate_every_steps=2)
    assert [one.step for one in run.evaluations] == [row["step"] for row in lines()] == [0, 2, 4, 6]
    assert lines() == [one.row() for one in run.evaluations]
    assert written() == run.evaluations[-1]
    train("other")
    assert Path("run/generator.safetensors").read_bytes() == Path("other/generator.safetensors").read_bytes()
    assert written("other") == written()


def test_the_last_step_is_evaluated_whatever_the_distance_is():
    run = train(evaluate_every_steps=4)
    assert [one.step for one in run.evaluations] == [0, 4, 6]
    assert [row["step"] for row in lines()] == [0, 4]
    assert written().step == 6


@pytest.mark.parametrize("at", [3, 4])
def test_a_resumed_run_has_the_evaluations_of_an_uninterrupted_one(at, monkeypatch):
    whole = train("whole", evaluate_every_steps=2, checkpoint_every_steps=2)

    class Stopping:
        every = 1

        def __call__(self, trainer):
            if trainer.steps_done == at:
                trainer.stop()

    build = Run.build_trainer

    def stopping(self, device=None):
        trainer = build(self, device)
        trainer.callbacks.append(Stopping())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(Run, "build_trainer", stopping)
        train(evaluate_every_steps=2, checkpoint_every_steps=2)
    assert written().step == at
    with Path("run/evaluations.jsonl").open("a") as file:
        file.write('{"step": 8, "raw/capt')
    run = Run.open("run")
    run.resume(progress=False)
    assert run.evaluations == whole.evaluations
    for name in ("evaluations.jsonl", "evaluation.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_evaluations_of_data_that_nothing_scores_are_refused_before_a_folder_is_made():
    with pytest.raises(BadValueError, match="evaluate_every_steps must be 0 for data that nothing scores, got 2"):
        train(preset=TINY.replace(data="two_moons"), evaluate_every_steps=2)
    assert not Path("run").exists()


def test_an_evaluator_that_fails_does_so_before_a_folder_is_made(monkeypatch):
    def missing(self, samples):
        raise DataNotFoundError("the test digits are missing")

    monkeypatch.setattr(MixtureEvaluator, "__call__", missing)
    with pytest.raises(DataNotFoundError, match="the test digits are missing"):
        train(evaluate_every_steps=2)
    assert not Path("run").exists()


# --- the best step -------------------------------------------------------------------------------------------


def scripted(monkeypatch, *values):
    """Let the reverse KL of the evaluations be these values, the untrained generator's first."""
    left = list(values)

    def score(self, samples):
        return {"reverse_kl": Score(left[0] if len(left) == 1 else left.pop(0), 0.0, "lower", 2500)}

    monkeypatch.setattr(MixtureEvaluator, "__call__", score)


BEST = {"evaluate_every_steps": 2, "keep_best": "reverse_kl", "checkpoint_every_steps": 3}
RAW = TINY.replace(averaging_decay=None, learning_rate_decay=False)  # so that each evaluation takes one value


def test_the_best_step_of_a_run_is_a_run_itself(monkeypatch):
    scripted(monkeypatch, 9.0, 1.0, 3.0, 2.0)
    train(preset=RAW, **BEST)
    other = train("other", preset=RAW.replace(steps=2))
    for name in ("generator", "discriminator"):
        weights = [Path(folder, f"{name}.safetensors").read_bytes() for folder in ("run/best", "other", "run")]
        assert weights[0] == weights[1] != weights[2]
    assert torch.equal(Run.open("run/best").load_trainer().sample(5, seed=1), other.trainer.sample(5, seed=1))
    assert written("run/best").step == 2
    assert evaluate_run("run/best").step == 2
    kept = sorted(path.name for path in Path("run/checkpoints").iterdir())
    assert kept == ["step_0000002", "step_0000003", "step_0000006"]
    with pytest.raises(CheckpointNotFoundError, match="without one"):
        Run.open("run/best").resume(progress=False)


def test_a_run_ends_early_when_its_metric_does_not_improve(monkeypatch):
    scripted(monkeypatch, 9.0, 1.0, 2.0, 0.5)
    run = train(preset=RAW, patience=1, **BEST)
    assert run.trainer.steps_done == 4
    assert written("run/best").step == 2


@pytest.mark.parametrize("option", [{"keep_best": "reverse_kl"}, {"patience": 2}])
def test_a_best_step_needs_evaluations(option):
    with pytest.raises(BadValueError, match="evaluate_every_steps must be above 0 with (keep_best|patience), got 0"):
        Recipe(preset=TINY, **option)


def test_a_metric_that_is_not_scored_is_refused_before_a_folder_is_made():
    with pytest.raises(BadValueError, match=r"metric must be one of captured_modes, .* got 'reverse'"):
        train(evaluate_every_steps=2, keep_best="reverse")
    assert not Path("run").exists()


# --- the evaluation of a run that is there -------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_run_is_evaluated_as_at_the_end_of_its_training(replicas, decay):
    run = train(preset=TINY.replace(averaging_decay=decay), replicas=replicas)
    Path("run/evaluation.json").unlink()
    found = evaluate_run("run")
    assert found == run.evaluations[-1] == written()
    assert list(found.scores) == (["raw"] if decay is None else ["raw", "averaged"])


def test_the_seed_of_the_latents_is_the_runs_unless_another_is_given(monkeypatch):
    train()
    score, seeds = evaluated.score_generator, []

    def noting(*args, seed, **options):
        seeds.append(seed)
        return score(*args, seed=seed, **options)

    monkeypatch.setattr(evaluated, "score_generator", noting)
    evaluate_run("run")
    evaluate_run("run", seed=2)
    assert seeds == [1, 2]


def test_the_samples_of_a_conditional_model_go_through_the_classes(monkeypatch):
    @DATASETS.register("classes")
    def classes():
        return TensorData(torch.rand(60, 2), torch.arange(60) % 3)

    class Seen:
        samples = 7

        def __call__(self, samples):
            return MixtureEvaluator(DATASETS.build("ring"), samples=7)(samples)

    asked = []

    def generate(state, count, condition, *_, **options):
        asked.append(condition)
        return torch.rand(count, 2)

    monkeypatch.setattr(evaluated, "evaluator_for", lambda preset, root: Seen())
    monkeypatch.setattr("gankit.training.trainer.generate", generate)
    try:
        train(preset=TINY.replace(data="classes", num_classes=3, sample_range=(0.0, 1.0)))
        evaluate_run("run")
    finally:
        del DATASETS._factories["classes"]
    assert asked[0].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(DataNotFoundError, match=r"must hold recipe\.json, got 'nowhere'"):
        evaluate_run("nowhere")
    train(preset=TINY.replace(data="two_moons"))
    with pytest.raises(BadArgumentsError, match="for runs on data that gankit can score, got 'two_moons'"):
        evaluate_run("run")
    train("other")
    with FolderLock(Path("other"), "a folder"), pytest.raises(OutputError, match="other"):
        evaluate_run("other")
