from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from gankit.errors import BadValueError, CheckpointError, OutputExistsError
from gankit.metrics import Score
from gankit.presets import ring
from gankit.training import Checkpointer, Evaluate, callbacks, load_checkpoint, load_newest, score_generator
from gankit.training.saving.folder import find_checkpoints
from tests.training.conftest import small_generator
from tests.training.steps import SHAPE

TINY = ring.replace(batch_size=16, steps=8)


class Moments:
    """An evaluator that keeps what it is given, and draws from torch's default generator."""

    samples = 7

    def __init__(self):
        self.seen = []
        self.drawn = []

    def __call__(self, samples):
        self.seen.append(samples)
        self.drawn.append(torch.rand(()).item())
        mean = samples.double().mean().item()
        return {"mean": Score(mean, real=0.0, better="lower", samples=len(samples))}


def logged(path="evaluations.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def everything(trainer):
    """All that the next step depends on, as bytes."""

    def plain(node):
        if isinstance(node, torch.Tensor):
            return node.numpy(force=True).tobytes()
        if isinstance(node, dict):
            return {key: plain(one) for key, one in node.items()}
        return [plain(one) for one in node] if isinstance(node, (list, tuple)) else node

    return plain({name: part for name, part in trainer.state_dict().items() if name != "metrics"})


def test_the_callbacks_module_offers_it_too():
    assert callbacks.Evaluate is Evaluate


@pytest.mark.parametrize("kind", ["single", "dropout", "replicas"])
def test_training_is_to_the_last_bit_what_it_is_without_evaluations(kind, make_trainer, batches):
    def trained(*found):
        if kind == "dropout":  # which draws from torch's default generator
            torch.manual_seed(0)
            G = nn.Sequential(small_generator(), nn.Dropout(0.5))
            return make_trainer(G, averaging_decay=0.9, callbacks=found).fit(batches, steps=6)
        replicas = 2 if kind == "replicas" else None
        trainer = TINY(device="cpu", seed=3, replicas=replicas, callbacks=found)
        return trainer.fit(TINY.batches(device="cpu", seed=3, replicas=replicas), steps=6)

    evaluate = Evaluate(Moments(), every=2)
    with_it, without = trained(evaluate), trained()
    assert [one.step for one in evaluate.history] == [0, 2, 4, 6]
    assert everything(with_it) == everything(without)
    assert torch.equal(with_it.sample(3), without.sample(3))


@pytest.mark.parametrize("replicas", [None, 3])
def test_raw_and_averaged_weights_are_sampled_from_the_same_latents(replicas):
    trainer = TINY(device="cpu", replicas=replicas, averaging_decay=0.9)
    trainer.fit(TINY.batches(device="cpu", replicas=replicas), steps=3)
    evaluator = Moments()
    evaluation = score_generator(trainer, evaluator, seed=5)
    count = replicas or 1
    assert [len(evaluation.scores[weights]) for weights in ("raw", "averaged")] == [count, count]
    raw, averaged = evaluator.seen[:count], evaluator.seen[count:]
    assert not torch.equal(raw[0], averaged[0])
    G, average = trainer.generator, trainer.averaged_generator
    average.load_state_dict(G.state_dict())
    again = Moments()
    score_generator(trainer, again, seed=5)
    for mine, theirs, before in zip(again.seen[:count], again.seen[count:], raw, strict=True):
        assert torch.equal(mine, theirs)
        assert torch.equal(mine, before)


def test_a_replica_is_scored_as_a_model_with_its_seed():
    together, alone = Moments(), Moments()
    trainer = TINY(device="cpu", seed=4, replicas=2, averaging_decay=None)
    score_generator(trainer, together, seed=8)
    score_generator(TINY(device="cpu", seed=5, averaging_decay=None), alone, seed=9)
    assert together.seen[1].allclose(alone.seen[0], atol=1e-6)


def test_the_latents_of_an_evaluation_are_not_those_of_other_samples(make_trainer):
    evaluator, trainer = Moments(), make_trainer()
    score_generator(trainer, evaluator, seed=0)
    for others in (trainer.sample(7), trainer.sample(7, seed=0)):
        assert not torch.equal(evaluator.seen[0], others)


def test_the_evaluator_sees_no_gradient_and_draws_the_same_numbers_each_time(make_trainer):
    evaluator, trainer = Moments(), make_trainer()
    first, second = (score_generator(trainer, evaluator) for _ in range(2))
    assert first == second
    assert evaluator.drawn[0] == evaluator.drawn[1]
    assert not any(one.requires_grad for one in evaluator.seen)
    assert list(first.scores) == ["raw"]


def test_a_conditional_generator_is_given_the_condition(make_trainer):
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 16)
            self.scale = nn.Linear(3, 16)

        def forward(self, z, condition):
            return (self.scale(z) * 0 + self.table(condition)).unflatten(1, SHAPE)

    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 1)

        def forward(self, x, condition):
            return self.layer(x.flatten(1)).flatten()

    evaluator, labels = Moments(), torch.arange(7)
    random = torch.Generator().manual_seed(1)
    pairs = [(torch.randn(6, *SHAPE, generator=random), torch.arange(6)) for _ in range(2)]
    trainer = make_trainer(Conditional(), Judge(), callbacks=[Evaluate(evaluator, every=1, condition=labels)])
    trainer.fit(pairs, steps=1)
    assert torch.equal(evaluator.seen[-1], trainer.sample(7, labels))


def test_an_evaluation_every_zero_steps_is_refused():
    with pytest.raises(BadValueError, match="every"):
        Evaluate(Moments(), every=0)


# --- the file ------------------------------------------------------------------------------------------------


def evaluating(make_trainer, *more, **options):
    evaluate = Evaluate(Moments(), every=2, path="evaluations.jsonl")
    return make_trainer(callbacks=[evaluate, *more], averaging_decay=0.9, **options), evaluate


def test_each_evaluation_has_a_line(make_trainer, batches):
    trainer, evaluate = evaluating(make_trainer)
    trainer.fit(batches, steps=5)
    assert logged() == [one.row() for one in evaluate.history]
    assert [row["step"] for row in logged()] == [0, 2, 4]
    assert logged()[0].keys() == {"step", "raw/mean", "raw/mean/real", "averaged/mean", "averaged/mean/real"}


@pytest.mark.parametrize("end", ["", '{"step": 8, "ra'], ids=["whole", "cut off"])
def test_a_training_that_continues_from_a_checkpoint_has_each_line_once(end, make_trainer, batches):
    whole, history = evaluating(make_trainer)
    whole.fit(batches, steps=10)
    wanted = Path("evaluations.jsonl").read_text()
    Path("evaluations.jsonl").unlink()
    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        evaluating(make_trainer, checkpointer)[0].fit(batches, steps=8)
    with Path("evaluations.jsonl").open("a") as file:
        file.write(end)
    resumed, evaluate = evaluating(make_trainer)
    load_newest("checkpoints").restore(resumed, batches)
    assert [one.step for one in evaluate.history] == [0, 2, 4, 6]
    resumed.fit(batches, steps=6)
    assert [row["step"] for row in logged()] == [0, 2, 4, 6]
    resumed.fit(batches, steps=10)
    assert Path("evaluations.jsonl").read_text() == wanted
    assert evaluate.history == history.history


def test_a_state_that_is_loaded_into_the_same_trainer_cuts_history_and_file(make_trainer, batches):
    trainer, evaluate = evaluating(make_trainer)
    state = copy.deepcopy(trainer.fit(batches, steps=4).state_dict())
    trainer.fit(batches, steps=8)
    trainer.load_state_dict(state)
    trainer.fit(batches, steps=6)
    assert [one.step for one in evaluate.history] == [row["step"] for row in logged()] == [0, 2, 4, 6]


def test_the_file_of_another_training_is_refused_before_the_first_step(make_trainer, batches):
    evaluating(make_trainer)[0].fit(batches, steps=4)
    content = Path("evaluations.jsonl").read_text()
    other, _ = evaluating(make_trainer, seed=1)
    with pytest.raises(OutputExistsError, match=r"'evaluations\.jsonl' with lines of another training"):
        other.fit(batches, steps=4)
    assert other.steps_done == 0
    assert Path("evaluations.jsonl").read_text() == content


def test_a_history_that_is_none_is_refused_with_the_checkpoint(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=4) as checkpointer:
        evaluating(make_trainer, checkpointer)[0].fit(batches, steps=4)
    checkpoint = load_newest("checkpoints")
    (state,) = [one["state"] for one in checkpoint.state["callbacks"]]
    state["history"][0]["raw"] = [{"mean": None}]
    fresh, evaluate = evaluating(make_trainer)
    with pytest.raises(CheckpointError, match="an evaluation must have a step"):
        checkpoint.restore(fresh, batches)
    assert (fresh.steps_done, evaluate.history) == (0, [])


# --- the best step -------------------------------------------------------------------------------------------


class Scripted:
    """An evaluator that gives the next of some values at each evaluation, the untrained generator's first."""

    samples = 2

    def __init__(self, *values, better="lower", name="distance"):
        self.values, self.better, self.name = list(values), better, name

    def __call__(self, samples):
        first = Score(0.0, real=0.0, better="higher", samples=2)
        return {"first": first, self.name: Score(self.values.pop(0), real=0.0, better=self.better, samples=2)}


@pytest.mark.parametrize(
    ("values", "better", "expected"),
    [
        ([0, 5, 3, 4], "lower", 2),
        ([9, 5, 3, 7], "higher", 3),
        ([0, 5, 3, 3], "lower", 2),  # the earlier of two
        ([0, math.nan, 3, math.nan], "lower", 2),
        ([0, math.nan, math.nan, math.nan], "higher", 1),
    ],
)
def test_the_best_step_is_that_of_the_metric(values, better, expected, make_trainer, batches):
    evaluate = Evaluate(Scripted(*values, better=better), every=1, metric="distance")
    assert evaluate.best_step is None
    make_trainer(callbacks=[evaluate]).fit(batches, steps=3)
    assert evaluate.best_step == expected


def test_without_a_metric_one_of_validation_data_counts(make_trainer, batches):
    evaluate = Evaluate(Scripted(0, 5, 3, 4, name="distance/validation"), every=1)
    make_trainer(callbacks=[evaluate]).fit(batches, steps=3)
    assert evaluate.best_step == 2
    evaluate = Evaluate(Scripted(0, 5, 3, 4), every=1)
    make_trainer(callbacks=[evaluate]).fit(batches, steps=3)
    assert evaluate.best_step == 1  # the first metric is always 0


def test_a_metric_that_the_evaluator_lacks_is_refused_before_the_first_step(make_trainer, batches):
    trainer = make_trainer(callbacks=[Evaluate(Scripted(0), every=1, metric="distanc", path="evaluations.jsonl")])
    with pytest.raises(BadValueError, match=r"metric must be one of first, distance, got 'distanc'"):
        trainer.fit(batches, steps=3)
    assert trainer.steps_done == 0
    assert not Path("evaluations.jsonl").exists()


@pytest.mark.parametrize(
    ("patience", "values", "stopped_at"),
    [
        (1, [0, 5, 4, 4, 1], 3),
        (2, [0, 5, 4, 6, 4, 1], 4),
        (2, [0, 5, 6, 4, 5, 3, 4], 6),
        (None, [0, 1, 2, 3, 4, 5, 6], 6),
    ],
)
def test_training_stops_when_the_metric_has_not_improved(patience, values, stopped_at, make_trainer, batches):
    evaluate = Evaluate(Scripted(*values), every=1, metric="distance", patience=patience)
    assert make_trainer(callbacks=[evaluate]).fit(batches, steps=6).steps_done == stopped_at


def test_patience_is_exact_after_a_resume(make_trainer, batches):
    def evaluating(*values):
        return Evaluate(Scripted(*values), every=1, metric="distance", patience=3)

    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        make_trainer(callbacks=[evaluating(0, 5, 4, 6), checkpointer]).fit(batches, steps=3)
    evaluate = evaluating(5, 7, 1)
    resumed = make_trainer(callbacks=[evaluate])
    load_newest("checkpoints").restore(resumed, batches)
    assert (resumed.fit(batches, steps=9).steps_done, evaluate.best_step) == (5, 2)


def kept():
    return [step for step, _ in find_checkpoints(Path("checkpoints"))]


def test_the_checkpoint_of_the_best_step_is_kept_whenever_it_is(make_trainer, batches):
    evaluate = Evaluate(Scripted(0, 5, 3, 9, 4, 6), every=2, metric="distance")
    with Checkpointer("checkpoints", every_steps=3, keep_last=1, keep_best=evaluate) as checkpointer:
        assert checkpointer.every == 1
        trainer = make_trainer(callbacks=[evaluate, checkpointer])
        trainer.fit(batches, steps=5)
        checkpointer.flush()
        assert kept() == [4]  # 2 was the best one before; 3 is older
        trainer.fit(batches, steps=10)
        checkpointer.flush()
        assert kept() == [4, 9]
    assert evaluate.best_step == 4


def test_the_best_checkpoint_is_kept_after_a_resume(make_trainer, batches):
    def checkpointing(*values):
        evaluate = Evaluate(Scripted(*values), every=1, metric="distance")
        checkpointer = Checkpointer("checkpoints", every_steps=1, keep_last=1, keep_best=evaluate)
        return make_trainer(callbacks=[evaluate, checkpointer]), checkpointer

    trainer, checkpointer = checkpointing(0, 5, 1, 4)
    with checkpointer:
        trainer.fit(batches, steps=3)
    resumed, checkpointer = checkpointing(6, 2)
    load_newest("checkpoints").restore(resumed, batches)
    with checkpointer:
        resumed.fit(batches, steps=5)
    assert kept() == [2, 5]
    assert load_checkpoint("checkpoints/step_0000002").step == 2
