"""A server that forks training processes, so that tests can kill them. Run as a program, this file is the server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from gankit.cli import main
from gankit.runs import Recipe, Run
from tests.faults.checkpoints import POINTS


class PlainRun(Run):
    """A run without pictures, so that a kill most often hits training or saving."""

    def _pictures(self, batches):
        return None

    def _draw_curves(self):
        pass


RECIPE = Recipe(preset=POINTS.replace(steps=30), device="cpu", seed=1, log_every_steps=3, checkpoint_every_steps=5)


class ForkServer:
    """A separate process that has imported everything and forks the processes that tests kill.

    The test's own process cannot fork them: torch's autograd does not survive a fork once it has been used.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.processes"]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes)
        self._ask("answer")  # when it does, it has imported everything

    def _ask(self, *words: object) -> int:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def fork(self, folder: str, killing_call: tuple[str, int] | None = None) -> int:
        """Start the run in a folder, or resume it, in a new process; return the process's id."""
        return self._ask("fork", str(Path(folder).resolve()), killing_call)

    def command(self, *arguments: str, seconds_per_flush: float = 0.0) -> int:
        """Start a gankit command whose writing thread flushes slowly; return the process's id."""
        return self._ask("command", arguments, seconds_per_flush)

    def wait_for(self, child: int) -> int:
        """Wait for a process to end; return its exit code, or the negative number of the signal that ended it."""
        return self._ask("wait", child)

    def run(self, folder: str, killing_call: tuple[str, int] | None = None) -> int:
        """Call `fork` and wait for the process."""
        return self.wait_for(self.fork(folder, killing_call))

    def close(self) -> None:
        """End the server."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def serve() -> None:
    """Answer the requests of a `ForkServer`."""
    with contextlib.suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401  (or every child would import it again)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing else that prints can be taken for an answer
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        answer = 0
        if what == "fork":
            answer = fork(lambda arguments=arguments: run_or_resume(*arguments))
        elif what == "command":
            answer = fork(lambda arguments=arguments: run_command(*arguments))
        elif what == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1])
        print(answer, file=answers, flush=True)


def fork(work: Callable[[], int]) -> int:
    """Fork a process that calls `work` and exits with what it returns; return the process's id."""
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


def run_or_resume(folder: str, killing_call: tuple[str, int] | None) -> int:
    """Start the run in a folder, or resume it, until it ends or makes the call that kills it."""
    if killing_call is not None:
        kill_at_call(*killing_call)
    if Path(folder, "recipe.json").exists():
        PlainRun.open(folder).resume(progress=False)
    else:  # killed before it had written anything
        shutil.rmtree(folder, ignore_errors=True)
        PlainRun(folder, RECIPE).train(progress=False)
    return 0


def run_command(arguments: list[str], seconds_per_flush: float) -> int:
    """Run a gankit command in which each flush of the writing thread takes this much longer."""
    flush = os.fsync

    def slowly(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(seconds_per_flush)
        flush(descriptor)

    os.fsync = slowly
    return main(arguments)


def kill_at_call(name: str, count: int) -> None:
    """Kill this process at the `count`-th call of `os.fsync` or `os.rename` outside the main thread."""
    real, calls = getattr(os, name), []

    def counting(*arguments):
        if threading.current_thread() is not threading.main_thread():
            calls.append(arguments)
            if len(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(os, name, counting)


if __name__ == "__main__":
    serve()
