"""When a checkpoint is written, what it holds, and what is kept."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from gankit import AdversarialTrainer
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointWarning,
    OutputError,
)
from gankit.training import Checkpointer, load_checkpoint, load_newest
from gankit.training.saving import checkpointer as checkpointer_module
from gankit.training.saving.folder import has_checkpoints
from gankit.training.saving.snapshot import Snapshot
from gankit.training.saving.tree import flatten, unflatten


def steps_in(directory="checkpoints") -> list[int]:
    return sorted(int(path.name.removeprefix("step_")) for path in Path(directory).iterdir())


def test_a_checkpoint_is_a_folder_with_a_manifest(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=2, recipe={"preset": "mine"}) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=2)
    folder = Path("checkpoints/step_0000002")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "state.json", "state.safetensors"]
    form = json.loads((folder / "manifest.json").read_text())
    assert form["step"] == 2
    assert form["recipe"] == {"preset": "mine"}
    assert form["versions"]["torch"] == torch.__version__
    for name in ("state.json", "state.safetensors"):
        assert form["files"][name]["bytes"] == (folder / name).stat().st_size
    found = load_checkpoint(folder)
    assert (found.step, found.recipe) == (2, {"preset": "mine"})


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [10, 12]),
        ({"keep_last": 1}, [12]),
        ({"keep_last": None}, [2, 4, 6, 8, 10, 12]),
        ({"keep_every_steps": 4}, [4, 8, 10, 12]),
    ],
)
def test_what_is_kept(options, kept, make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=2, **options) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=12)
    assert steps_in() == kept


def test_an_abandoned_future_is_neither_counted_nor_removed(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=2, keep_last=None) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=8)
    with Checkpointer("checkpoints", every_steps=2, keep_last=1) as checkpointer:
        trainer = make_trainer(callbacks=[checkpointer])
        load_checkpoint("checkpoints/step_0000002").restore(trainer, batches)
        trainer.fit(batches, steps=4)
    assert steps_in() == [4, 6, 8]


def test_checkpoints_by_time(make_trainer, batches, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(checkpointer_module.time, "monotonic", lambda: next(clock))
    with Checkpointer("checkpoints", every_seconds=3, keep_last=None) as checkpointer:
        assert checkpointer.every == 1
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=8)
    assert 1 < len(steps_in()) < 8


def test_the_same_step_can_be_saved_again(make_trainer, batches):
    trainer = make_trainer().fit(batches, steps=1)
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        checkpointer.save(trainer)
        with torch.no_grad():
            next(trainer.generator.parameters()).fill_(3.0)
        checkpointer.save(trainer)
    assert steps_in() == [1]
    assert (load_newest("checkpoints").state["training"]["generator"]["0.weight"] == 3.0).all()


def test_rests_of_interrupted_writes_are_removed():
    rest = Path("checkpoints/.unfinished_step_0000003_17")
    rest.mkdir(parents=True)
    (rest / "state.safetensors").write_bytes(b"half")
    Path("checkpoints/mine").mkdir()
    Checkpointer("checkpoints", every_steps=1)
    assert [path.name for path in Path("checkpoints").iterdir()] == ["mine"]
    assert not has_checkpoints("checkpoints")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "every_steps or every_seconds must be given"),
        ({"every_steps": 0}, "every_steps must be above 0"),
        ({"every_seconds": -1.0}, "every_seconds must be above 0"),
        ({"every_steps": 1, "keep_last": 0}, "keep_last must be above 0"),
        ({"every_steps": 1, "keep_every_steps": 0}, "keep_every_steps must be above 0"),
        ({"every_steps": 1, "on_failure": "hide"}, "on_failure must be 'raise' or 'warn', got 'hide'"),
    ],
)
def test_impossible_numbers_are_refused(options, says):
    with pytest.raises(BadValueError, match=says):
        Checkpointer("checkpoints", **options)
    assert not Path("checkpoints").exists()


def test_a_folder_that_cannot_be_made_is_told():
    Path("file").write_text("")
    with pytest.raises(OutputError, match="must be writable, got 'file/checkpoints'"):
        Checkpointer("file/checkpoints", every_steps=1)


# --- behind the training ---------------------------------------------------------------------------------


def test_training_goes_on_while_a_checkpoint_is_written_and_changes_nothing_in_it(make_trainer, batches, monkeypatch):
    may_write, write = threading.Event(), Checkpointer._write

    def waiting(self, *arguments):
        assert may_write.wait(10)
        write(self, *arguments)

    monkeypatch.setattr(Checkpointer, "_write", waiting)
    trainer = make_trainer().fit(batches, steps=1)
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        before = {name: tensor.clone() for name, tensor in trainer.generator.state_dict().items()}
        checkpointer.save(trainer)
        trainer.fit(batches, steps=3)
        assert not has_checkpoints("checkpoints")
        may_write.set()
    found = load_newest("checkpoints").state["training"]
    assert found["steps_done"] == 1
    assert all(torch.equal(found["generator"][name], tensor) for name, tensor in before.items())


def test_any_failure_surfaces_in_the_training_thread(make_trainer, batches, monkeypatch):
    def failing(self, *arguments):
        raise OutputError("the disk is on fire")

    monkeypatch.setattr(Checkpointer, "_write", failing)
    checkpointer = Checkpointer("checkpoints", every_steps=1)
    trainer = make_trainer(callbacks=[checkpointer])
    with pytest.raises(OutputError, match="on fire"):
        trainer.fit(batches, steps=3)
    assert trainer.steps_done == 2
    checkpointer.close()


def test_an_error_inside_the_block_is_not_covered_by_a_failed_write(make_trainer, batches, monkeypatch):
    def failing(self, *arguments):
        raise OutputError("the disk is on fire")

    monkeypatch.setattr(Checkpointer, "_write", failing)
    trainer = make_trainer().fit(batches, steps=1)

    def fail_elsewhere():
        with Checkpointer("checkpoints", every_steps=1) as checkpointer:
            checkpointer.save(trainer)
            raise KeyError

    with pytest.warns(UserWarning, match="on fire"), pytest.raises(KeyError):
        fail_elsewhere()


def test_no_thread_is_left(make_trainer, batches):
    before = threading.active_count()
    for number in range(3):
        with Checkpointer(f"checkpoints_{number}", every_steps=1) as checkpointer:
            make_trainer(callbacks=[checkpointer]).fit(batches, steps=2)
    assert threading.active_count() == before


# --- states ----------------------------------------------------------------------------------------------


def test_a_snapshot_keeps_structure_and_versions_of_layers():
    layer = torch.nn.BatchNorm1d(2)
    snapshot = Snapshot({"layer": layer.state_dict(), "betas": (0.5, None), "names": ["a", torch.float16]}).ready()
    assert type(snapshot["layer"]) is type(layer.state_dict())
    assert snapshot["layer"]._metadata == layer.state_dict()._metadata
    assert snapshot["betas"] == (0.5, None)
    assert snapshot["names"] == ["a", torch.float16]


@pytest.mark.parametrize("value", [object(), {1, 2}, Path("x"), lambda: None])
def test_what_could_not_be_loaded_safely_is_not_saved(value):
    with pytest.raises(BadArgumentsError, match=r"must hold tensors, .* got \w+ in callbacks\[0\].state"):
        Snapshot({"callbacks": [{"state": value}]})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.zeros(2, dtype=torch.bits8),
        torch.zeros(2, dtype=torch.float8_e8m0fnu),
    ],
    ids=["sparse", "meta", "bits", "scales"],
)
def test_a_tensor_that_no_file_could_hold_is_refused_when_it_is_saved(tensor):
    with pytest.raises(
        BadArgumentsError, match=rf"must hold tensors with memory, .* got {tensor.dtype} .* in own\[0\]"
    ):
        Snapshot({"own": [tensor]})


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_a_quantized_tensor_is_refused_when_it_is_saved():
    with pytest.raises(BadArgumentsError, match=r"must hold tensors with memory, .* got torch.quint8 .* in own"):
        Snapshot({"own": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)})


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: (one,), lambda one: {"a": one}, lambda one: {3: one}])
def test_what_is_nested_too_deeply_to_be_read_is_not_saved(wrap):
    state = torch.zeros(1)
    for _ in range(99):
        state = wrap(state)
    unflatten(*flatten(Snapshot({"own": state}).ready()))  # as deep as can be read
    with pytest.raises(BadArgumentsError, match=r"must be nested at most 100 levels deep, got more in own"):
        Snapshot({"own": wrap(state)})


def test_a_trainer_that_does_not_fit_is_refused(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=1)
    with pytest.raises(CheckpointError, match="must hold the state of a trainer like this one: .*averaging_decay"):
        load_newest("checkpoints").restore(make_trainer(averaging_decay=0.5), batches)


def test_nothing_there_is_an_error():
    Path("checkpoints").mkdir()
    with pytest.raises(CheckpointNotFoundError, match="must hold one, got 'checkpoints' without any"):
        load_newest("checkpoints")


def test_the_files_of_a_checkpoint_can_be_read_by_the_same_people(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=1)
    Path("other").write_text("")
    modes = {path.stat().st_mode for path in Path("checkpoints/step_0000001").iterdir()}
    assert modes == {Path("other").stat().st_mode}


# --- the lock of the folder ------------------------------------------------------------------------------


def test_a_new_checkpointer_of_this_process_closes_an_earlier_one(make_trainer, batches):
    trainer = make_trainer().fit(batches, steps=1)
    earlier = Checkpointer("checkpoints", every_steps=1)
    earlier.save(trainer)
    with Checkpointer("checkpoints", every_steps=1) as later:
        assert load_newest("checkpoints").step == 1  # what was being written is whole
        later.save(trainer)
        with pytest.raises(OutputError, match="must not be in use, got 'checkpoints', which this process writes into"):
            earlier.save(trainer)
    earlier.save(trainer)
    earlier.close()
    assert steps_in() == [1]


# --- one training per folder, and whole steps ------------------------------------------------------------


def test_the_folder_of_another_training_is_refused_when_fit_begins(make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=2, keep_last=1) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=4)
        checkpointer.flush()
        content = {path: path.read_bytes() for path in Path("checkpoints").rglob("*") if path.is_file()}
        other = make_trainer(callbacks=[checkpointer])
        for act in (lambda: other.fit(batches, steps=8), lambda: checkpointer.save(other)):
            with pytest.raises(CheckpointError, match="of one training, got step_0000004 of another one; name another"):
                act()
        with pytest.raises(CheckpointError, match="of another one"):
            checkpointer.roll_back(other)
        assert other.steps_done == 0
        assert content == {path: path.read_bytes() for path in Path("checkpoints").rglob("*") if path.is_file()}


def test_a_folder_with_checkpoints_of_an_earlier_format_is_refused(make_trainer, batches):
    shutil.copytree(Path(__file__).parents[2] / "files" / "ring_format_1" / "checkpoints", "checkpoints")
    with (
        Checkpointer("checkpoints", every_steps=2) as checkpointer,
        pytest.raises(CheckpointError, match="got step_0000020 of another one"),
    ):
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=4)
    assert steps_in() == [20]


def test_a_training_that_is_continued_keeps_its_folder(make_trainer, batches):
    for steps in (2, 4, 6):
        with Checkpointer("checkpoints", every_steps=1, keep_last=None) as checkpointer:
            trainer = make_trainer(callbacks=[checkpointer])
            if has_checkpoints("checkpoints"):
                load_newest("checkpoints").restore(trainer, batches)
            trainer.fit(batches, steps=steps)
    assert steps_in() == [1, 2, 3, 4, 5, 6]


def test_half_a_step_cannot_be_saved(make_trainer, batches):
    class SavesBetweenTheUpdates(AdversarialTrainer):
        def generator_objective(self, context):
            if checkpointer is not None:
                assert not self.is_between_steps
                with pytest.warns(CheckpointWarning, match="step 1 has begun and is not finished"):
                    self.state_dict()
                checkpointer.save(self)
            return super().generator_objective(context)

    plain = make_trainer()
    trainer = SavesBetweenTheUpdates(
        plain.generator,
        plain.discriminator,
        plain.loss,
        latent=plain.latent,
        generator_optimizer=plain.generator_optimizer,
        discriminator_optimizer=plain.discriminator_optimizer,
    )
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        for act in (lambda: trainer.step(batches[0]), lambda: checkpointer.save(trainer)):
            with pytest.raises(CheckpointError, match="between two steps, but step 1 has begun and is not finished"):
                act()
        saving, checkpointer = checkpointer, None
        trainer.step(batches[0])
        saving.save(trainer)
    assert steps_in() == [1]
