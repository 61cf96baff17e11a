"""The way to run steps is chosen and explained, and replaced by eager steps if it fails."""

from __future__ import annotations

import dataclasses
import io
from functools import partial

import pytest
import torch

from gankit import LossSchedule
from gankit.errors import BadValueError, DeviceError, ExecutionWarning
from gankit.losses import NonSaturating
from gankit.regularizers import (
    R1,
    Consistency,
    Lecam,
    PathLength,
)
from gankit.training import EXECUTIONS
from gankit.training.execution.graphs import NewStatesError
from tests.training import steps
from tests.training.execution.fallbacks import Reads, ReadsTheStep, Remembers, Replaces
from tests.training.steps import (
    assert_the_same_run,
    everything,
    with_dropout,
)

make = partial(steps.make, dtype=torch.float64)
make_batches = partial(steps.make_batches, dtype=torch.float64)


@pytest.mark.parametrize(
    ("execution", "options", "error", "says"),
    [
        ("fast", {}, BadValueError, "execution must be one of auto, eager, compile, cuda_graph, .* got 'fast'"),
        ("cuda_graph", {}, DeviceError, "execution 'cuda_graph' needs a CUDA device, got 'cpu'"),
        ("compile+cuda_graph", {}, DeviceError, r"execution 'compile\+cuda_graph' needs a CUDA device, got 'cpu'"),
        ("eager", {"precision": "tf32"}, DeviceError, "precision 'tf32' needs a CUDA device, got 'cpu'"),
        (
            "compile",
            {"share_generator_forward": True},
            BadValueError,
            "share_generator_forward keeps the generator's graph .* got 'compile'",
        ),
        (
            "compile",
            {"simultaneous_updates": True},
            BadValueError,
            "simultaneous_updates keeps the generator's graph .* got 'compile'",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_construction(execution, options, error, says):
    with pytest.raises(error, match=says):
        make(execution, **options)


@pytest.mark.parametrize(("execution", "mode"), [("auto", "eager"), ("eager", "eager"), ("compile", "compile")])
def test_a_trainer_explains_how_its_steps_will_run_before_the_first_one(execution, mode):
    explanation = make(execution).explain()
    assert (explanation.requested, explanation.mode) == (execution, mode)
    assert (explanation.programs, explanation.kernels, explanation.pool_bytes) == (0, None, 0)
    assert (explanation.compile_seconds, explanation.capture_seconds) == (0.0, 0.0)


def test_the_reason_is_the_missing_cuda_device_or_the_request():
    assert make("auto").explain().reason == "only a CUDA device captures steps"
    assert make("eager").explain().reason == "as requested"
    assert EXECUTIONS[0] == "auto"


def test_an_explanation_has_one_line_per_fact():
    explanation = make("auto").explain()
    lines = str(explanation).splitlines()
    assert [line[:16].strip().replace(" ", "_") for line in lines] == [
        field.name for field in dataclasses.fields(explanation)
    ]
    assert lines[1].split() == ["mode", "eager"]


def test_auto_on_the_cpu_is_eager_to_the_last_bit():
    data = make_batches()
    assert_the_same_run(make("eager").fit(data, steps=4), make("auto").fit(data, steps=4))


def test_an_explanation_counts_the_compiled_halves(traced_only):
    trainer = make("compile")
    trainer.fit(make_batches(), steps=1)
    assert trainer.explain().programs == 0  # the first step makes the optimizers' states, operation by operation
    trainer.fit(trainer.feed.batches, steps=3)
    explanation = trainer.explain()
    assert (explanation.mode, explanation.programs) == ("compile", 2)
    assert 0 < explanation.compile_seconds < 60


# --- what cannot be compiled -----------------------------------------------------------------------------


FALLBACKS = {
    "a loss that reads a number": (lambda: {"loss": Reads(), "averaging_decay": 0.9}, "_local_scalar_dense"),
    "a part that reads the step": (
        lambda: {"regularizers": [ReadsTheStep()]},
        "a part reads context.step, which changes from step to step",
    ),
    "an augmentation": (
        lambda: {"regularizers": [Consistency()]},
        "an augmentation draws from a generator, which a compiled half cannot",
    ),
    "a buffer that is replaced": (
        lambda: {"regularizers": [Replaces(dtype=torch.float64)]},
        "Replaces puts another tensor in the place of its 'average' instead of changing it in place",
    ),
    "a tensor that is no buffer": (lambda: {"regularizers": [Remembers(dtype=torch.float64)]}, ""),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_cannot_be_compiled_falls_back_with_one_warning_and_leaves_no_trace(traced_only, case):
    options, says = FALLBACKS[case]
    data = make_batches()
    eager = make("eager", networks=with_dropout, **options()).fit(data, steps=5)
    random = torch.get_rng_state()
    trainer = make("compile", networks=with_dropout, **options())
    with pytest.warns(ExecutionWarning, match=f"execution 'compile' falls back to 'eager': .*{says}") as caught:
        trainer.fit(data, steps=5)
    assert [warning.category for warning in caught] == [ExecutionWarning]
    assert caught[0].filename == __file__
    explanation = trainer.explain()
    assert (explanation.requested, explanation.mode, explanation.programs) == ("compile", "eager", 0)
    assert says in explanation.reason
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(eager.noise.get_state(), trainer.noise.get_state())
    for name, value in everything(eager).items():
        assert torch.equal(everything(trainer)[name], value), name


def test_a_machine_that_cannot_compile_falls_back_with_one_warning(monkeypatch):
    def compile_nothing(graph, **_):
        def fail(*_):
            raise RuntimeError("no working C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    data = make_batches()
    eager = make("eager").fit(data, steps=4)
    trainer = make("compile")
    with pytest.warns(ExecutionWarning, match="falls back to 'eager': .*no working C\\+\\+ compiler") as caught:
        trainer.fit(data, steps=4)
    assert len(caught) == 1
    assert_the_same_run(eager, trainer)


def test_a_later_loss_that_cannot_be_compiled_falls_back_when_it_takes_over(traced_only):
    data = make_batches()
    trainer = make("compile", LossSchedule({0: "non_saturating", 3: Reads()}))
    trainer.fit(data, steps=3)
    assert trainer.explain().mode == "compile"
    with pytest.warns(ExecutionWarning, match="_local_scalar_dense"):
        trainer.fit(data, steps=5)
    eager = make("eager", LossSchedule({0: "non_saturating", 3: Reads()})).fit(data, steps=5)
    assert_the_same_run(eager, trainer, rtol=1e-9, atol=1e-12)


def test_an_error_in_a_later_loss_is_raised_unchanged(traced_only):
    class Mistaken(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            raise KeyError("no such thing")

    trainer = make("compile", LossSchedule({0: "non_saturating", 3: Mistaken()}))
    with pytest.warns(ExecutionWarning, match="KeyError"), pytest.raises(KeyError, match="no such thing"):
        trainer.fit(make_batches(), steps=5)


# --- state -----------------------------------------------------------------------------------------------


def test_a_loaded_state_continues_a_compiled_run_to_the_last_bit(compiler):
    def trainer():
        return make("compile", regularizers=[R1(), Lecam(), PathLength()], averaging_decay=0.9)

    data = make_batches()
    whole = trainer().fit(data, steps=8)
    first = trainer().fit(data, steps=4)  # a whole epoch, so that the list of batches begins again
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = trainer()
    second.load_state_dict(torch.load(file, weights_only=True))
    second.fit(data, steps=8)
    assert second.explain().mode == "compile"
    assert_the_same_run(whole, second)


def test_a_loaded_state_is_what_later_compiled_steps_change(traced_only):
    data = make_batches()
    trainer = make("compile").fit(data, steps=4)
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    trainer.fit(data, steps=8)
    after = everything(trainer)
    file.seek(0)
    trainer.load_state_dict(torch.load(file, weights_only=True))
    trainer.fit(data, steps=8)
    for name, value in everything(trainer).items():
        assert torch.equal(after[name], value), name


def test_a_step_in_which_an_optimizer_creates_states_runs_eagerly_and_the_next_one_may_be_captured(recwarn):
    """Without a GPU, a function stands for the captured step."""
    trainer, data = make(), make_batches()
    executor = trainer._executor
    trainer.step(data[0])
    captured = []

    def graphs(batches):
        captured.append(trainer.steps_done)
        if trainer.steps_done == 1:
            raise NewStatesError("an optimizer creates states of parameters")
        return executor._step(batches)

    executor.mode, executor._graphs = "cuda_graph", graphs
    trainer.step(data[1])
    trainer.step(data[2])
    assert captured == [1, 2]
    assert executor.mode == "cuda_graph"
    assert not recwarn
    assert_the_same_run(make().fit(data[:3], steps=3), trainer)
