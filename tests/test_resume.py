"""Resuming equals never having stopped, to the last bit."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import gankit
from gankit.cli import main
from gankit.data import StreamBatches
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointNotFoundError,
    CheckpointWarning,
    DataError,
    InexactResumeWarning,
    RecipeDiffersError,
)
from gankit.losses import LossSchedule
from gankit.presets import ring, vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, load_newest

SMALL = {"generator": Spec("mlp", widths=[8]), "discriminator": Spec("mlp", widths=[8]), "batch_size": 16}
POINTS = ring.replace(
    **SMALL | {"generator": Spec("mlp", widths=[8], block="linear_relu")},
    learning_rate_decay=False,
    averaging_decay=None,
)
DIGITS = vanilla_mnist.replace(**SMALL)


@pytest.fixture(autouse=True)
def _without_curves(request, monkeypatch):
    """Leave out what takes most of the time of so short a run, where it is not looked at."""
    if "holds_what" not in request.node.name and "without_a_checkpoint" not in request.node.name:
        monkeypatch.setattr(Run, "_pictures", lambda self, batches: None)
        monkeypatch.setattr(Run, "_draw_curves", lambda self: None)


def assert_equal(first, second, where="state"):
    """Two states agree in structure, in types, and in every bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        first, second = first.detach(), second.detach()
        assert first.dtype == second.dtype, where
        assert first.shape == second.shape, where
        assert first.numpy().tobytes() == second.numpy().tobytes(), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{where}[{i}]")
    else:
        assert first == second, where


def everything(trainer) -> dict:
    return {"trainer": trainer.state_dict(), "data": trainer.data_state()}


CASES = {
    "plain": (POINTS, {}),
    "digits, in the middle of an epoch": (DIGITS.replace(batch_size=1000), {}),
    "two updates of D": (DIGITS.replace(discriminator_steps=2, batch_size=700), {}),
    "a schedule of losses": (POINTS.replace(loss=LossSchedule({0: "non_saturating", 7: "hinge"})), {}),
    "LeCam's averages": (POINTS.replace(regularizers=("lecam",)), {}),
    "LeCam's averages of replicas": (POINTS.replace(regularizers=("lecam",)), {"replicas": 3}),
    "replicas": (DIGITS.replace(batch_size=1000), {"replicas": 2}),
    "learning rates that decay": (POINTS.replace(learning_rate_decay=True, steps=13), {}),
    "averaging": (DIGITS.replace(averaging_decay=0.9), {}),
    "bfloat16": (POINTS.replace(precision="bfloat16"), {}),
    "a lazy penalty": (POINTS.replace(regularizers=(Spec("r1", every=2),)), {}),
    "a path-length penalty": (POINTS.replace(regularizers=(Spec("path_length", every=3),)), {}),
    "warm-up and clipping": (POINTS.replace(discriminator_warmup_steps=6, max_gradient_norm=0.1), {}),
    "sharing G's pass": (POINTS.replace(share_generator_forward=True), {}),
    "a conditional model": (DIGITS.replace(num_classes=10, batch_size=1000), {}),
    "momentum": (POINTS.replace(generator_optimizer="rmsprop", discriminator_optimizer=Spec("sgd", lr=0.1)), {}),
}


@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 8))])
@pytest.mark.parametrize("case", CASES)
def test_resuming_equals_never_having_stopped(case, stop):
    resumes_exactly(*CASES[case], stop)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 5])
@pytest.mark.parametrize("case", [case for case in CASES if case != "sharing G's pass"])
def test_resuming_a_compiled_training_equals_never_having_stopped(case, stop):
    preset, options = CASES[case]
    resumes_exactly(preset.replace(execution="compile"), options, stop)


def resumes_exactly(preset, options, stop):

    def make():
        trainer = preset(device="cpu", seed=3, log_every_steps=3, **options)
        return trainer, preset.batches(device="cpu", seed=3, **options)

    whole, batches = make()
    with Checkpointer("checkpoints", every_steps=stop) as checkpointer:
        whole.callbacks.append(lambda_at(stop, checkpointer))
        whole.fit(batches, steps=13)
    torch.manual_seed(99)  # a new process has another state
    resumed, batches = make()
    load_newest("checkpoints").restore(resumed, batches)
    assert resumed.steps_done == stop
    resumed.fit(batches, steps=13)
    assert_equal(everything(whole), everything(resumed))
    assert whole.read_metrics() == resumed.read_metrics()
    labels = None if preset.num_classes is None else torch.arange(4)
    assert torch.equal(whole.sample(4, labels), resumed.sample(4, labels))


def lambda_at(step, checkpointer):
    """The checkpointer, called at one step alone."""

    class Once:
        every = step

        def __call__(self, trainer):
            if trainer.steps_done == step:
                checkpointer(trainer)

    return Once()


# --- batches that somebody else makes --------------------------------------------------------------------


class Noisy(Dataset):
    """Pictures with an augmentation that draws from torch's default generator."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((1, 28, 28), index / 80) + torch.rand(1, 28, 28) / 2


def resumed_on(make_batches, steps=9, stop=4):
    """Train twice, once with an interruption; return both trainers."""
    trainers = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        trainer, batches = DIGITS(device="cpu", log_every_steps=100), make_batches()
        with Checkpointer("checkpoints", every_steps=100) as checkpointer:
            trainer.fit(batches, steps=stop)
            if interrupted:
                checkpointer.save(trainer)
        if interrupted:
            torch.manual_seed(1)
            del trainer, batches
            gc.collect()
            trainer, batches = DIGITS(device="cpu", log_every_steps=100), make_batches()
            load_newest("checkpoints").restore(trainer, batches)
        trainers.append(trainer.fit(batches, steps=steps))
        del batches, trainer.feed  # ends the workers now, not in the middle of something else
        gc.collect()
    return trainers


STREAMS = {
    "a data set": lambda: DIGITS.batches(Noisy(), device="cpu", batch_size=8),
    "a DataLoader": lambda: DIGITS.batches(DataLoader(Noisy(), 8, shuffle=True), device="cpu"),
    "a DataLoader in order": lambda: DIGITS.batches(DataLoader(Noisy(), 8), device="cpu"),
    "a list": lambda: DIGITS.batches(list(torch.arange(40.0).div(40).view(5, 8, 1, 1, 1).expand(-1, -1, 1, 28, 28))),
    "a list as it is": lambda: list(torch.arange(40.0).div(40).view(5, 8, 1, 1, 1).expand(-1, -1, 1, 28, 28)),
}


@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 7))])
@pytest.mark.parametrize("stream", STREAMS)
def test_the_place_in_a_stream_is_found_again(stream, stop):
    whole, resumed = resumed_on(STREAMS[stream], stop=stop)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Still(Noisy):
    """Pictures without an augmentation."""

    def __getitem__(self, index):
        return torch.full((1, 28, 28), index / 80)


def stateful_loader(dataset, workers):
    """torchdata's loader, which uses something of torch's that warns in newer versions."""
    module = pytest.importorskip("torchdata.stateful_dataloader")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.StatefulDataLoader(dataset, 8, shuffle=True, num_workers=workers)


WRAPPED = {"through the preset": lambda loader: DIGITS.batches(loader, device="cpu"), "as it is": lambda loader: loader}


# in an epoch, at its end, in the next one
@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 7))])
@pytest.mark.parametrize("dataset", [Still, Noisy])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_the_place_in_torchdatas_loader_is_found_again(wrap, dataset, stop):
    whole, resumed = resumed_on(lambda: WRAPPED[wrap](stateful_loader(dataset(), 0)), stop=stop, steps=12)
    assert_equal(whole.state_dict(), resumed.state_dict())


# it does not save the generators of its workers, so that their augmentations begin anew
@pytest.mark.slow  # torch takes seconds to end workers whose epoch is not over
@pytest.mark.parametrize("stop", [4, 5, 7])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_the_place_in_torchdatas_loader_with_workers_is_found_again(wrap, stop):
    whole, resumed = resumed_on(lambda: WRAPPED[wrap](stateful_loader(Still(), 2)), stop=stop, steps=12)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Killing:
    """Kills a worker of a loader, as the system does where memory runs out."""

    every = 7

    def __call__(self, trainer):
        if trainer.steps_done == 7:
            self.at = time.monotonic()
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


@pytest.mark.parametrize("wrap", ["through the preset", pytest.param("as it is", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:training goes on")  # where the loader has no state, the place in it is lost
def test_a_worker_that_is_killed_is_told_and_leaves_a_checkpoint_to_go_on_from(wrap):
    pictures = [torch.full((1, 28, 28), index / 1000) for index in range(400)]

    def make(workers, *callbacks):
        torch.manual_seed(0)
        loader = DataLoader(pictures, 8, shuffle=True, num_workers=workers)
        return DIGITS(device="cpu", callbacks=callbacks), WRAPPED[wrap](loader)

    killing = Killing()
    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        trainer, batches = make(2, checkpointer, killing)
        with pytest.raises(DataError, match="workers of a DataLoader must stay alive while it is in use, got ") as told:
            trainer.fit(batches, steps=1000)
    assert time.monotonic() - killing.at < 30
    assert isinstance(told.value.__cause__, (RuntimeError, ConnectionError, EOFError))
    steps_done, saved_last = trainer.steps_done, trainer.is_between_steps
    del trainer, batches, told
    gc.collect()  # ends the other worker now
    found = load_newest("checkpoints")
    assert found.step >= 6
    if wrap == "through the preset" and saved_last:
        assert found.step == steps_done  # the emergency's: no multiple of 3 is needed
    resumed, batches = make(0)
    found.restore(resumed, batches)
    if wrap == "through the preset":
        whole, own = make(0)
        whole.fit(own, steps=found.step + 9)
        resumed.fit(batches, steps=found.step + 9)
        assert_equal(whole.state_dict(), resumed.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(10))
# torch's handler may raise while a file is being opened somewhere, which then nobody closes
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_killed_at_any_moment_is_told(trial):
    loader = DataLoader([torch.full((1, 28, 28), index / 4000) for index in range(4000)], 8, num_workers=2)
    trainer, batches = DIGITS(device="cpu"), DIGITS.batches(loader, device="cpu")
    trainer.fit(batches, steps=2)
    worker = random.Random(trial).choice(multiprocessing.active_children())
    killing = threading.Timer(random.Random(trial).uniform(0, 0.5), os.kill, [worker.pid, signal.SIGKILL])
    killing.start()
    started = time.monotonic()
    with pytest.raises(DataError, match="the workers of a DataLoader must stay alive while it is in use"):
        trainer.fit(batches, steps=400)
    assert time.monotonic() - started < 30


@pytest.mark.slow  # torch takes seconds to end workers whose epoch is not over
def test_the_place_in_the_batches_of_workers_is_found_again():
    loader = lambda: DataLoader(Noisy(), 8, shuffle=True, num_workers=2)  # noqa: E731
    whole, resumed = resumed_on(lambda: DIGITS.batches(loader(), device="cpu"), stop=7)
    assert_equal(whole.state_dict(), resumed.state_dict())


class StatefulLoader:
    """What torchdata's StatefulDataLoader is to us: its `state_dict` tells the place in the epoch."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 5:
            self.at += 1
            yield torch.full((8, 1, 28, 28), self.at / 10)
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("wrap", [lambda loader: loader, lambda loader: DIGITS.batches(loader, device="cpu")])
def test_a_stateful_loader_is_asked(wrap):
    whole, resumed = resumed_on(lambda: wrap(StatefulLoader()), stop=7)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Stream(IterableDataset):
    def __iter__(self):
        yield from torch.rand(40, 1, 28, 28)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DataLoader(Noisy(), 8, shuffle=True), "place in the batches is lost, because DataLoader has no state"),
        (lambda: StreamBatches(DataLoader(Stream(), 8)), "because a DataLoader over an IterableDataset has no"),
        (
            lambda: StreamBatches(DataLoader(TensorDataset(torch.rand(40, 1, 28, 28)), 8, sampler=MySampler())),
            "because a DataLoader with a MySampler has no",
        ),
    ],
)
def test_what_cannot_be_restored_is_said_once(make, says):
    with pytest.warns(InexactResumeWarning, match=says) as caught:
        resumed_on(make)
    assert len(caught) == 1


class MySampler(torch.utils.data.Sampler):
    def __iter__(self):
        yield from range(40)

    def __len__(self):
        return 40


def test_other_versions_are_said(monkeypatch):
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        POINTS(device="cpu", callbacks=[checkpointer]).fit(POINTS.batches(device="cpu"), steps=1)
    monkeypatch.setattr(torch, "__version__", "9.0")
    with pytest.warns(InexactResumeWarning, match=r"it was saved with torch \d.*, this is 9.0"):
        load_newest("checkpoints").restore(POINTS(device="cpu"), POINTS.batches(device="cpu"))


# --- callbacks with a state ------------------------------------------------------------------------------


class Counting:
    every = 1

    def __init__(self):
        self.seen = []

    def __call__(self, trainer):
        self.seen.append(trainer.steps_done)

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_callbacks_with_a_state_go_on_with_it():
    with Checkpointer("checkpoints", every_steps=2) as checkpointer:
        callbacks = [Counting(), Counting(), checkpointer]
        POINTS(device="cpu", callbacks=callbacks).fit(POINTS.batches(device="cpu"), steps=2)
    callbacks = [Counting(), Counting()]
    trainer, batches = POINTS(device="cpu", callbacks=callbacks), POINTS.batches(device="cpu")
    load_newest("checkpoints").restore(trainer, batches)
    trainer.fit(batches, steps=3)
    assert [one.seen for one in callbacks] == [[1, 2, 3]] * 2
    with pytest.warns(InexactResumeWarning, match="there is no callback Counting, whose state was saved"):
        load_newest("checkpoints").restore(POINTS(device="cpu", callbacks=[Counting()]), batches)


# --- runs ------------------------------------------------------------------------------------------------


def recipe(preset=POINTS, **options) -> Recipe:
    defaults = {"device": "cpu", "seed": 1, "log_every_steps": 2, "sample_every_steps": 4, "checkpoint_every_steps": 3}
    return Recipe(preset=preset.replace(steps=10), **defaults | options)


def stopped_at(folder: str, step: int, of: Recipe) -> Run:
    """A run that somebody stopped."""
    run = Run(folder, of)
    build = run.build_trainer

    def build_stopping():
        trainer = build()
        trainer.callbacks.append(lambda_at(step, lambda trainer: trainer.stop()))
        return trainer

    run.build_trainer = build_stopping
    run.train(progress=False)
    return run


def content(folder: str) -> dict[str, bytes]:
    files = [path for path in Path(folder).rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("preset", [POINTS, DIGITS.replace(averaging_decay=0.9)])
def test_a_resumed_run_holds_what_an_undisturbed_one_holds(preset):
    Run("whole", recipe(preset)).train(progress=False)
    stopped_at("run", 4, recipe(preset))
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step_0000003", "step_0000004"]
    Run.open("run").resume(progress=False)
    assert content("run") == content("whole")
    first, second = (load_newest(f"{folder}/checkpoints") for folder in ("whole", "run"))
    assert first.step == second.step == 10
    assert_equal(first.state, second.state)


def test_metrics_are_cut_back_to_the_checkpoint():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 8, recipe())
    with Path("run/metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "discrim')  # a line that the machine did not finish
    shutil.rmtree("run/checkpoints/step_0000008")
    Run.open("run").resume(progress=False)
    assert Path("run/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()


def test_without_a_checkpoint_a_run_begins_with_its_recipe():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 2, recipe())
    shutil.rmtree("run/checkpoints")
    Run.open("run").resume(progress=False)
    left = content("run")
    assert left.pop("samples/step_0000002.png")  # drawn when it was stopped
    assert left == content("whole")


def test_damaged_checkpoints_alone_are_no_start():
    stopped_at("run", 2, recipe())
    Path("run/checkpoints/step_0000002/state.json").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError, match="with none: .*state.json has 0 bytes, not"):
        Run.open("run").resume(progress=False)


def test_a_finished_run_goes_on_with_more_steps():
    Run("whole", recipe()).train(progress=False)
    more = recipe(POINTS)
    Run("run", Recipe(**vars(more) | {"preset": more.preset.replace(steps=6)})).train(progress=False)
    Run("run", more).resume(progress=False)
    assert content("run").pop("recipe.json") == content("whole").pop("recipe.json")
    assert_equal(load_newest("run/checkpoints").state, load_newest("whole/checkpoints").state)
    assert Run.open("run").recipe == more


def test_another_recipe_is_refused_and_named():
    stopped_at("run", 4, recipe())
    changed = recipe(POINTS.replace(loss="hinge", batch_size=8))
    with pytest.raises(RecipeDiffersError, match="got loss hinge instead of .*, batch_size 8 instead of 16; leave"):
        Run("run", changed).resume(progress=False)
    assert Run.open("run").recipe == recipe()


def test_fewer_steps_and_more_of_a_decay_are_other_recipes():
    decaying = recipe(POINTS.replace(learning_rate_decay=True))
    stopped_at("run", 4, decaying)
    for steps in (5, 20):
        other = Recipe(**vars(decaying) | {"preset": decaying.preset.replace(steps=steps)})
        with pytest.raises(RecipeDiffersError, match=f"got steps {steps} instead of 10"):
            Run("run", other).resume(progress=False)


OVERRIDES = {
    "loss": {"loss": "hinge"},
    "schedule": {"loss": LossSchedule({0: "hinge", 8: "minimax"})},
    "penalty": {"regularizers": ("lecam",)},
    "average": {"averaging_decay": 0.5},
    "batch size": {"batch_size": 8},
    "optimizer": {"generator_optimizer": Spec("sgd", lr=0.5)},
    "steps": {"steps": 7},
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_recipe_can_be_overridden(name):
    stopped_at("run", 5, recipe())
    changed = Recipe(**vars(recipe()) | {"preset": recipe().preset.replace(**OVERRIDES[name])})
    trainer = Run("run", changed).resume(progress=False, override=True)
    assert trainer.steps_done == changed.preset.steps
    assert Run.open("run").recipe == changed
    Run.open("run").resume(progress=False)  # and is now the run's own


def test_an_overridden_learning_rate_is_the_new_one():
    preset = POINTS.replace(generator_optimizer=Spec("adam", lr=0.1))
    stopped_at("run", 5, recipe(preset))
    changed = recipe(preset.replace(generator_optimizer=Spec("adam", lr=0.01)))
    trainer = Run("run", changed).resume(progress=False, override=True)
    assert trainer.generator_optimizer.param_groups[0]["lr"] == 0.01
    (first, *_) = trainer.generator_optimizer.state.values()
    assert first["step"] == 10


def test_other_networks_cannot_go_on():
    stopped_at("run", 5, recipe())
    changed = recipe(POINTS.replace(discriminator=Spec("mlp", widths=[9])))
    with pytest.raises(gankit.errors.CheckpointError, match="must hold the state of a trainer like this one: .*size"):
        Run("run", changed).resume(progress=False, override=True)
    assert Run.open("run").recipe == recipe()


def test_no_checkpoints_where_none_are_wanted():
    Run("run", recipe(checkpoint_every_steps=0)).train(progress=False)
    assert not Path("run/checkpoints").exists()


def test_a_recipe_from_before_there_were_checkpoints_is_read():
    form = recipe().to_dict()
    del form["checkpoint_every_steps"]
    assert Recipe.from_dict(form).checkpoint_every_steps == 100


def test_a_damaged_newest_checkpoint_is_skipped_with_a_word():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 8, recipe())
    Path("run/checkpoints/step_0000008/manifest.json").write_text("{}")
    with pytest.warns(CheckpointWarning, match="skipped for step_0000006: .*step_0000008 is no whole checkpoint"):
        Run.open("run").resume(progress=False)
    assert content("run") == content("whole")


# --- the command line ------------------------------------------------------------------------------------

COMMAND = ["train", "--resume", "run", "--no-progress"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*COMMAND, "--loss", "minimax"], "recipe of 'run', got loss minimax instead of hinge; leave it out, or add"),
        ([*COMMAND, "--seed", "2", "--batch-size", "8"], "got batch_size 8 instead of 16, seed 2 instead of 1"),
        ([*COMMAND, "--steps", "4"], "got steps 4 instead of 10"),
        ([*COMMAND, "--out", "other"], "--out must be left out beside --resume run, got 'other'"),
        (["train", "grid", *COMMAND[1:]], "'run' is a run of the preset 'ring', got 'grid'"),
        (["train", "--resume", "nowhere"], "must hold recipe.json, got 'nowhere' without one"),
        (["train"], "train needs a PRESET, or --resume RUN, got neither"),
        (["train", "ring", "--override"], "--override goes with --resume RUN"),
    ],
)
def test_what_cannot_be_resumed_is_one_sentence(arguments, says, capsys):
    stopped_at("run", 4, recipe(POINTS.replace(loss="hinge")))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert says in error
    assert error.count("\n") == 1
    assert load_newest("run/checkpoints").step == 4


def test_the_command_goes_on_also_with_more_steps_and_with_what_it_was_told_before(capsys):
    stopped_at("run", 4, recipe(POINTS.replace(loss="hinge")))
    assert main(["train", "ring", *COMMAND[1:], "--loss", "hinge", "--steps", "12"]) == 0
    assert "12 of 12 steps done" in capsys.readouterr().out
    assert main([*COMMAND, "--loss", "minimax", "--steps", "14", "--override"]) == 0
    assert Run.open("run").recipe.preset.loss == Spec("minimax")


# --- gankit.load -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_generator_is_rebuilt_from_a_finished_run(decay):
    trainer = Run("run", recipe(DIGITS.replace(averaging_decay=decay))).train(progress=False)
    generator = gankit.load("run")
    latents = torch.randn(3, 10)
    expected = (trainer.averaged_generator or trainer.generator).eval()
    assert torch.equal(generator(latents), expected(latents))
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_a_replica_is_rebuilt():
    trainer = Run("run", recipe(DIGITS, replicas=2)).train(progress=False)
    latents = torch.randn(3, 10)
    for index in range(2):
        expected = trainer.replica(index)[0].eval()
        assert torch.allclose(gankit.load("run", replica=index)(latents), expected(latents), atol=1e-6)
    with pytest.raises(BadValueError, match="must be one of the run's 2, got 2"):
        gankit.load("run", replica=2)


def test_a_recipe_that_asks_for_more_than_the_file_holds_takes_no_memory():
    Run("run", recipe(DIGITS)).train(progress=False)
    form = json.loads(Path("run/recipe.json").read_text())
    form["preset"]["generator"] = {"name": "mlp", "widths": [10**7, 10**7]}  # 400 TB
    Path("run/recipe.json").write_text(json.dumps(form))
    with pytest.raises(BadArgumentsError, match=r"generator.safetensors must hold the recipe's generator: .*shape"):
        gankit.load("run")
