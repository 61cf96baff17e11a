"""What machines do to a run: each fault is really done. The long versions are marked slow."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from gankit.cli import main
from gankit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWarning, OutputError
from gankit.presets import ring
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, load_checkpoint, load_newest

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"), discriminator=Spec("mlp", widths=[8]), batch_size=16
)


class PlainRun(Run):
    """A run without pictures, so that what is killed is mostly training and saving."""

    def _pictures(self, batches):
        return None

    def _draw_curves(self):
        pass


def recipe(steps: int = 30, every: int = 5) -> Recipe:
    preset = POINTS.replace(steps=steps)
    return Recipe(preset=preset, device="cpu", seed=1, log_every_steps=3, checkpoint_every_steps=every)


class Nursery:
    """A warm process of its own, which forks those that are to be killed.

    Not this one: torch's autograd does not survive a fork of a process that has used it.
    """

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes)
        self._ask("warm")

    def _ask(self, *words: object) -> int:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def fork(self, folder: str, die_at: tuple[str, int] | None = None) -> int:
        """Begin or go on with the run in a folder; return the process's id."""
        return self._ask("fork", str(Path(folder).resolve()), die_at)

    def command(self, *arguments: str, seconds_a_flush: float = 0.0) -> int:
        """Begin a command of gankit's, with slow flushes to the disk behind training; return the process's id."""
        return self._ask("command", arguments, seconds_a_flush)

    def outcome_of(self, child: int) -> int:
        """Wait for a process; return its exit code, or minus the signal that ended it."""
        return self._ask("wait", child)

    def run(self, folder: str, die_at: tuple[str, int] | None = None) -> int:
        """`fork`, and wait."""
        return self.outcome_of(self.fork(folder, die_at))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def nurse() -> None:
    """Answer a `Nursery`: the main program of its process."""
    with contextlib.suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401  (which every child would import anew)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed by others is no answer
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        answer = 0
        if what == "fork":
            answer = forked(lambda arguments=arguments: resumed(*arguments))
        elif what == "command":
            answer = forked(lambda arguments=arguments: commanded(*arguments))
        elif what == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1])
        print(answer, file=answers, flush=True)


def forked(work: Callable[[], int]) -> int:
    """Fork a process that does something; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def resumed(folder: str, death: tuple[str, int] | None) -> int:
    """Go on with a run, if need be until a certain death."""
    if death is not None:
        die_at(*death)
    go_on(folder)
    return 0


def commanded(arguments: list[str], seconds_a_flush: float) -> int:
    """Run a command; what the writing thread flushes takes so long."""
    flush = os.fsync

    def slowly(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(seconds_a_flush)
        flush(descriptor)

    os.fsync = slowly
    return main(arguments)


def weights(folder: str) -> dict[str, bytes]:
    names = ("generator.safetensors", "averaged_generator.safetensors", "discriminator.safetensors", "metrics.jsonl")
    return {name: (Path(folder) / name).read_bytes() for name in names}


def go_on(folder: str) -> None:
    if Path(folder, "recipe.json").exists():
        PlainRun.open(folder).resume(progress=False)
    else:  # killed before there was anything
        shutil.rmtree(folder, ignore_errors=True)
        PlainRun(folder, recipe()).train(progress=False)


def rows_of(folder: str) -> int:
    file = Path(folder, "metrics.jsonl")
    return json.loads(file.read_text().splitlines()[-1])["step"] if file.exists() and file.stat().st_size else 0


# --- SIGKILL ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nursery():
    """A warm process to fork from."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, nursery):
    """The weights of a run that nobody disturbed, and how long it took."""
    folder = str(tmp_path_factory.mktemp("undisturbed") / "run")
    started = time.perf_counter()
    assert nursery.run(folder) == 0
    return weights(folder), time.perf_counter() - started


def killed_and_resumed(trials: int, nursery, undisturbed) -> list[str]:
    expected, seconds = undisturbed
    chance, wrong = random.Random(0), []
    for trial in range(trials):
        folder = f"run_{trial}"
        for _ in range(chance.choice([1, 1, 2])):  # sometimes twice
            child = nursery.fork(folder)
            time.sleep(chance.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)  # it is there until its outcome is asked for
            nursery.outcome_of(child)
            found = load_newest(f"{folder}/checkpoints").step if any(Path(folder).glob("checkpoints/step*")) else 0
            if rows_of(folder) - found > 5 + 3:  # the next one may have been under way
                wrong.append(f"{trial}: lost more than the interval")
        if nursery.run(folder) != 0 or weights(folder) != expected:
            wrong.append(f"{trial}: another outcome")
        if list(Path(folder, "checkpoints").glob(".*")):
            wrong.append(f"{trial}: stray files")
        shutil.rmtree(folder)
    return wrong


def test_a_killed_run_ends_as_if_nothing_had_happened(nursery, undisturbed):
    assert killed_and_resumed(2, nursery, undisturbed) == []


@pytest.mark.slow
def test_a_hundred_killed_runs_end_as_if_nothing_had_happened(nursery, undisturbed):
    assert killed_and_resumed(100, nursery, undisturbed) == []


def die_at(name: str, count: int) -> None:
    """Let this process be killed at the `count`-th call of `os.fsync` or `os.rename`, in whatever thread."""
    real, calls = getattr(os, name), []

    def dying(*arguments):
        calls.append(0)
        if len(calls) == count and threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), signal.SIGKILL)
        if threading.current_thread() is threading.main_thread():
            calls.pop()
        return real(*arguments)

    setattr(os, name, dying)


IN_A_SAVE = [("fsync", 3)]
LATER_OR_SOONER = [("rename", 1), ("fsync", 1), ("fsync", 2), ("fsync", 4), ("fsync", 6), ("rename", 4)]


@pytest.mark.parametrize(
    ("name", "count"), IN_A_SAVE + [pytest.param(*one, marks=pytest.mark.slow) for one in LATER_OR_SOONER]
)
def test_a_run_killed_inside_a_save_ends_as_if_nothing_had_happened(name, count, nursery, undisturbed):
    assert nursery.run("run", (name, count)) == -signal.SIGKILL
    assert nursery.run("run") == 0
    assert weights("run") == undisturbed[0]
    assert not list(Path("run/checkpoints").glob(".*"))


# --- damaged files ---------------------------------------------------------------------------------------


def two_checkpoints() -> tuple[Path, Path]:
    with Checkpointer("checkpoints", every_steps=2) as checkpointer:
        POINTS(device="cpu", callbacks=[checkpointer]).fit(POINTS.batches(device="cpu"), steps=4)
    return Path("checkpoints/step_0000002"), Path("checkpoints/step_0000004")


def truncated(content: bytearray, chance: random.Random) -> bytes:
    return bytes(content[: chance.randrange(len(content))])


def with_a_zeroed_page(content: bytearray, chance: random.Random) -> bytes:
    page = chance.randrange(-(-len(content) // 4096)) * 4096
    content[page : page + 4096] = bytes(len(content[page : page + 4096]))
    return bytes(content)


def with_a_flipped_bit(content: bytearray, chance: random.Random) -> bytes:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


DAMAGES = [truncated, with_a_zeroed_page, with_a_flipped_bit]


def loaded_in_silence(damage, trials: int) -> int:
    """Damage a file of the newest checkpoint again and again; count what was not noticed."""
    _, newest = two_checkpoints()
    chance, silent = random.Random(0), 0
    files = sorted(newest.iterdir())
    for _ in range(trials):
        path = chance.choice(files)
        whole = path.read_bytes()
        broken = damage(bytearray(whole), chance)
        if broken == whole:  # a page of zeros, zeroed
            continue
        path.write_bytes(broken)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = load_newest("checkpoints")
        told = [one for one in caught if one.category is CheckpointWarning and path.parent.name in str(one.message)]
        silent += found.step != 2 or len(told) != 1
        path.write_bytes(whole)
    assert load_newest("checkpoints").step == 4
    return silent


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_file_is_loaded_in_silence(damage):
    assert loaded_in_silence(damage, 60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_thousand_damaged_files_none_is_loaded_in_silence(damage):
    assert loaded_in_silence(damage, 1000) == 0


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
def test_a_missing_file_is_noticed(name):
    _, newest = two_checkpoints()
    (newest / name).unlink()
    with pytest.warns(CheckpointWarning, match=f"step_0000004 is no whole checkpoint: it has no {name}"):
        assert load_newest("checkpoints").step == 2


# --- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB, where this process may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("mounting needs more rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def save_until_full(directory, checkpointer, fill: Callable[[], None]) -> None:
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    trainer.fit(batches, steps=1)
    checkpointer.save(trainer)
    checkpointer.flush()
    fill()
    trainer.fit(batches, steps=2)
    checkpointer.save(trainer)
    checkpointer.flush()


def test_a_full_disk_is_told_and_leaves_the_previous_checkpoint(small_disk):
    directory = small_disk / "checkpoints"

    def fill():
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with pytest.raises(OutputError, match=r"must be writable, got '.*step_0000002': No space left on device"):
        save_until_full(directory, Checkpointer(directory, every_steps=1), fill)
    assert [path.name for path in directory.iterdir()] == ["step_0000001"]
    assert load_newest(directory).step == 1


@pytest.mark.parametrize("after_bytes", [0, 100, 5000])
def test_a_write_that_fails_is_told_and_leaves_the_previous_checkpoint(after_bytes, monkeypatch):
    from gankit.training import _manifest

    class Full(_manifest.Hashing):
        def write(self, data):
            if self.size > after_bytes:
                self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def fill(patch):
        patch.setattr(_manifest, "Hashing", Full)

    told = pytest.raises(OutputError, match=r"'checkpoints/step_0000002': No space left on device")
    with monkeypatch.context() as patch, told:
        save_until_full("checkpoints", Checkpointer("checkpoints", every_steps=1), partial(fill, patch))
    assert [path.name for path in Path("checkpoints").iterdir()] == ["step_0000001"]
    checkpointer = Checkpointer("others", every_steps=1, on_failure="warn")
    with monkeypatch.context() as patch, pytest.warns(CheckpointWarning, match="No space left"):
        save_until_full("others", checkpointer, partial(fill, patch))
    assert load_newest("others").step == 1


def test_a_run_on_a_full_disk_ends_with_one_sentence(small_disk, capsys):
    options = ["--generator", "mlp:widths=[64],block=linear_relu", "--device", "cpu", "--no-progress"]
    folder = str(small_disk / "run")
    code = main(["train", "ring", *options, "--steps", "20", "--checkpoint-every-steps", "1", "--out", folder])
    said = capsys.readouterr().err
    assert code == 2
    assert said.splitlines()[-1].startswith("gankit: error: ")
    assert "No space left on device" in said
    assert not list(Path(folder).rglob(".*"))


# --- files that mean harm --------------------------------------------------------------------------------


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def forged(change_manifest=None, state=None) -> Path:
    """A checkpoint whose hashes are right."""
    from gankit.training import _manifest

    _, newest = two_checkpoints()
    form = json.loads((newest / "manifest.json").read_text())
    del form["sha256"]
    if state is not None:
        (newest / "state.pt").unlink()
        form["files"]["state.pt"] = _manifest.write_file(newest / "state.pt", state)
    if change_manifest is not None:
        change_manifest(form)
    (newest / "manifest.json").write_bytes(_manifest.manifest_bytes(form))
    return newest


def test_a_pickle_that_runs_a_command_runs_nothing():
    newest = forged(
        state=lambda file: torch.save({"trainer": Harmful(), "data": None, "callbacks": [], "other_ranks": []}, file)
    )
    with pytest.raises(CheckpointError, match="does not load without running code from it"):
        load_checkpoint(newest)
    assert not Path("harmed").exists()


def test_a_plain_pickle_runs_nothing():
    import pickle

    newest = forged(state=lambda file: file.write(pickle.dumps(Harmful())))
    with pytest.raises(CheckpointError, match="does not load without running code from it"):
        load_checkpoint(newest)
    assert not Path("harmed").exists()


def test_an_archive_that_grows_when_it_is_read_is_not_read():
    import io
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    newest = forged(state=lambda file: file.write(content.getvalue()))
    with pytest.raises(CheckpointError, match="state.pt is a compressed archive"):
        load_checkpoint(newest)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", "", ".hidden", "x" * 200])
def test_a_name_that_reaches_outside_is_refused(name):
    Path("checkpoints").mkdir()
    Path("checkpoints/secret").write_text("")
    newest = forged(lambda form: form["files"].update({name: {"bytes": 0, "sha256": ""}}))
    with pytest.raises(CheckpointError, match="which is no file in its folder"):
        load_checkpoint(newest)


def test_a_link_is_not_followed_and_a_pipe_is_not_waited_for():
    older, newest = two_checkpoints()
    (newest / "state.pt").unlink()
    (newest / "state.pt").symlink_to((older / "state.pt").resolve())
    with pytest.raises(CheckpointError, match="state.pt is not a file"):
        load_checkpoint(newest)
    (newest / "manifest.json").unlink()
    os.mkfifo(newest / "manifest.json")
    with pytest.raises(CheckpointError, match="manifest.json is not a file"):
        load_checkpoint(newest)


def test_a_manifest_is_not_read_beyond_its_bound():
    _, newest = two_checkpoints()
    with (newest / "manifest.json").open("ab") as file:
        file.truncate(10**12)  # a hole, which takes no room
    with pytest.raises(CheckpointError, match="manifest.json has 1000000000000 bytes, more than"):
        load_checkpoint(newest)


@pytest.mark.parametrize(
    "change",
    [
        lambda form: form.update(format=9),
        lambda form: form.update(step=-1),
        lambda form: form.update(step="4"),
        lambda form: form.update(step=5),
        lambda form: form.update(files=[]),
        lambda form: form.update(files={}),
        lambda form: form.update(versions=None),
        lambda form: form.update(recipe=3),
        lambda form: form["files"]["state.pt"].pop("bytes"),
        lambda form: form["files"]["state.pt"].update(bytes="many"),
        lambda form: form.pop("versions"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(change):
    with pytest.raises(CheckpointError, match="step_0000004 is no whole checkpoint"):
        load_checkpoint(forged(change))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000, '{"sha256": 3}', "\x00"])
def test_a_manifest_that_is_none_is_refused(text):
    _, newest = two_checkpoints()
    (newest / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="step_0000004 is no whole checkpoint"):
        load_checkpoint(newest)


# --- signals ---------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "gankit", "train"]
SMALL = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]", "--device", "cpu"]


def begun(*options: str) -> subprocess.Popen:
    """Begin a long training, and wait until it has saved something."""
    command = [*COMMAND, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(Path("run/checkpoints").glob("step_*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_saves_and_tells_how_to_go_on(number, code):
    long = ["ring", *SMALL, "--steps", "1000000", "--no-progress", "--out", "run", "--checkpoint-every-steps", "10"]
    process = begun(*long)
    started = time.monotonic()
    process.send_signal(number)
    said, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - started < 30
    assert "stopping after this step" in told
    assert said.splitlines()[-1] == "continue gankit train --resume run"
    step = load_newest("run/checkpoints").step
    assert f"{step} of 1000000 steps done" in said
    override = ["--override", "--steps", str(step + 3), "--no-progress"]  # the learning rates depend on the steps
    assert main(["train", "--resume", "run", *override]) == 0
    assert load_newest("run/checkpoints").step == step + 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(("first", "second"), [(INT, INT), (TERM, TERM), (INT, TERM), (TERM, INT)])
def test_a_second_signal_aborts_and_leaves_what_was_saved(first, second, monkeypatch, capsys):
    """Both signals in one process: the second comes while the first is being answered."""
    save_weights = Run.save_weights

    def interrupted(self, trainer):
        save_weights(self, trainer)
        signal.raise_signal(second)

    monkeypatch.setattr(Run, "save_weights", interrupted)

    class Stopping:
        every = 1

        def __call__(self, trainer):
            if trainer.steps_done == 5:
                signal.raise_signal(first)

    build = Run.build_trainer

    def build_trainer(self, device=None):
        trainer = build(self, device)
        trainer.callbacks.append(Stopping())
        return trainer

    monkeypatch.setattr(Run, "build_trainer", build_trainer)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    options = ["--steps", "50", "--no-progress", "--checkpoint-every-steps", "4", "--out", "run"]
    assert main(["train", "ring", *SMALL, *options]) == 128 + second
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    told = capsys.readouterr().err
    assert "continue with\n  gankit train --resume run" in told
    assert load_newest("run/checkpoints").step == 5


def signalled(nursery, folder: Path, chance: random.Random, signals: list[signal.Signals], in_a_save: bool) -> str:
    """Send signals to a training; say what is wrong with what it left, or nothing."""
    options = ["--steps", "1000000", "--checkpoint-every-steps", "7", "--no-progress", "--out", str(folder.resolve())]
    child = nursery.command("train", "ring", *SMALL, *options, seconds_a_flush=0.1)
    wanted = f"{'.unfinished' if in_a_save else 'step'}_*"
    deadline = time.monotonic() + 60
    while not (any(folder.glob("checkpoints/step_*")) and any(folder.glob(f"checkpoints/{wanted}"))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    started = time.monotonic()
    for number in signals:
        time.sleep(chance.uniform(0, 0.05 if in_a_save else 0.3))
        os.kill(child, number)  # it is there until its outcome is asked for
    code = nursery.outcome_of(child)
    if time.monotonic() - started > 30:
        return "took longer than 30 seconds"
    # the second aborts, unless all was over when it came; a third may come into the midst of that
    ended_by = signals if len(signals) == 1 or not in_a_save else signals[1:]
    if code not in {128 + one for one in ended_by}:
        return f"exit code {code} after {signals}"
    found = load_newest(folder / "checkpoints").step
    go_on = ["--override", "--steps", str(found + 3), "--no-progress"]  # the learning rates depend on the steps
    if nursery.outcome_of(nursery.command("train", "--resume", str(folder.resolve()), *go_on)) != 0:
        return "did not go on"
    if load_newest(folder / "checkpoints").step != found + 3:
        return "went on from elsewhere"
    if stray := list(folder.rglob(".*")):
        return f"left {stray}"
    shutil.rmtree(folder)
    return ""


@pytest.mark.parametrize(
    "signals", [[TERM, TERM], *(pytest.param(one, marks=pytest.mark.slow) for one in ([INT], [TERM], [INT, INT]))]
)
def test_signals_during_a_save_leave_it_whole(signals, nursery):
    assert signalled(nursery, Path("run"), random.Random(0), signals, in_a_save=True) == ""


@pytest.mark.slow
def test_fifty_runs_that_get_signals_at_any_moment_leave_a_checkpoint_to_go_on_from(nursery):
    chance, wrong = random.Random(0), []
    for trial in range(50):
        signals = [chance.choice([INT, TERM]) for _ in range(chance.choice([1, 2, 2, 3]))]
        said = signalled(nursery, Path(f"run_{trial}"), chance, signals, in_a_save=chance.random() < 0.5)
        if said:
            wrong.append(f"{trial}: {said}")
    assert wrong == []


def test_nothing_whole_is_an_error():
    older, newest = two_checkpoints()
    for folder in (older, newest):
        (folder / "state.pt").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError, match="must hold a whole one, got 'checkpoints' with none"):
        load_newest("checkpoints")


if __name__ == "__main__":
    nurse()
