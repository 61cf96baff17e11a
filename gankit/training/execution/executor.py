"""How a step is run: operation by operation, compiled, as one CUDA graph, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from gankit.errors import BadValueError, CannotCaptureError, CannotCompileError, DeviceError, ExecutionWarning, warn
from gankit.protocols import DeviceBatches
from gankit.training.execution.graphs import GraphedStep, NewStatesError
from gankit.training.execution.hooks import HookWatch
from gankit.training.execution.tracing import TracedHalves
from gankit.training.execution.undo import undone, undone_if_refused
from gankit.training.step import learning_rates
from gankit.training.step.batches import CheckedBatch
from gankit.training.step.derivatives import check_gradients_enabled
from gankit.training.step.options import Execution
from gankit.training.step.step import Differentiate, Step

Mode: TypeAlias = Literal["eager", "compile", "cuda_graph", "compile+cuda_graph"]

_FREE_PROGRAMS = 3
_STEPS_PER_PROGRAM = 100  # a step that changes more often runs operation by operation


@dataclasses.dataclass(frozen=True)
class Explanation:
    """How the steps of a trainer are run, and what that took. `str` of it has one line per fact.

    Args:
        requested: The `execution` that the trainer was given.
        mode: The way in which its steps are run.
        reason: Why they are run that way.
        programs: The number of compiled halves or captured steps.
        kernels: The number of kernels that a step launches on a GPU. None on the CPU, and before the second step.
        compile_seconds: The time spent on tracing and compiling, in seconds.
        capture_seconds: The time spent on warming up and capturing, including compiling, in seconds.
        pool_bytes: The device memory that captured steps hold, in bytes.

    Example:
        >>> from gankit.presets import ring
        >>> print(ring(device="cpu").explain())  # doctest: +ELLIPSIS
        requested       auto
        mode            eager
        reason          only a CUDA device captures steps
        ...
    """

    requested: Execution
    mode: Mode
    reason: str
    programs: int
    kernels: int | None
    compile_seconds: float
    capture_seconds: float
    pool_bytes: int

    def __str__(self) -> str:
        """Return the facts, one per line."""
        return "\n".join(f"{name.replace('_', ' '):16}{value}" for name, value in vars(self).items())


class Executor:
    """Runs steps in the requested way, or operation by operation if that is not possible, and counts them.

    Args:
        step: What one step computes.

    Attributes:
        mode: The way in which steps are run.
        reason: Why they are run that way.

    Raises:
        BadValueError: for an execution that does not go with the other options.
        DeviceError: for CUDA graphs without CUDA.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> Executor(Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)).mode
        'eager'
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._state = step.state
        self._requested: Execution = step.options.execution
        self._first_uses = step.objectives.first_uses(step.options.discriminator_warmup_steps)
        self._check_request()
        self.mode: Mode
        if self._requested == "auto":
            is_cuda, is_alone = self._state.device.type == "cuda", step.ranks.size == 1
            self.mode = "cuda_graph" if is_cuda and is_alone else "eager"
            self.reason: str = "a CUDA device captures its steps" if is_cuda else "only a CUDA device captures steps"
            if is_cuda and not is_alone:
                self.reason = "several ranks exchange gradients"
        else:
            self.mode, self.reason = self._requested, "as requested"
        self._halves: TracedHalves | None = None
        self._graphs: GraphedStep | None = None
        self._hooks = HookWatch(self._state)
        self._newest: Sequence[CheckedBatch] = ()
        self._compiled: set[object] = set()
        self._constants: set[int] = set()
        self._runs: int = 0
        self.reset()

    def _check_request(self) -> None:
        requested, options, device = self._requested, self._step.options, self._state.device
        if "cuda_graph" in requested and device.type != "cuda":
            raise DeviceError(f"execution {requested!r} needs a CUDA device, got {str(device)!r}")
        if "compile" in requested and options.has_shared_fakes:
            name = "simultaneous_updates" if options.simultaneous_updates else "share_generator_forward"
            raise BadValueError(
                f"{name} keeps the generator's graph from one half to the other, which only executions 'eager' and "
                f"'cuda_graph' allow, got {requested!r}"
            )
        if self._step.ranks.size > 1 and "cuda_graph" in requested:
            raise BadValueError(
                f"several ranks exchange gradients, which only execution 'eager' allows, got {requested!r}"
            )
        if self._step.ranks.size > 1 and "compile" in requested and options.synchronize_batch_norm:
            raise BadValueError(
                "synchronize_batch_norm exchanges within a half, which only execution 'eager' allows, got "
                f"{requested!r}"
            )

    def reset(self) -> None:
        """Forget what was compiled and captured, which was made for tensors that have been replaced."""
        self._halves = TracedHalves(self._step) if "compile" in self.mode else None
        self._graphs = None
        self._compiled = set()
        self._constants, self._runs = set(), 0
        device = self._state.device
        for optimizer in self._state.optimizers:
            skips_on_device = device.type == "cuda" and self._state.watch.policy == "skip"
            if "cuda_graph" in self.mode or skips_on_device:
                learning_rates.put_on_device(optimizer, device)
            elif device.type == "cpu":
                learning_rates.put_on_host(optimizer)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_halves": None, "_graphs": None, "_newest": (), "_compiled": set[object]()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.reset()  # a copy compiles and captures anew

    def run(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on the given batches, count it, and return its named results."""
        self._newest = batches
        return self._run(lambda differentiate: self._step(batches, differentiate), lambda graphs: graphs(batches))

    @property
    def draws_batches(self) -> bool:
        """Whether the next step can draw its batches itself, by `run_from`."""
        return "cuda_graph" in self.mode and not self._is_first

    def run_from(self, source: DeviceBatches, read: Callable[[int], CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on batches that it draws from the device, and count it. Only if `draws_batches`."""
        slots = range(self._step.options.discriminator_steps)
        for slot in slots:  # once, even if a way to run the step fails and another one is tried
            source.advance(slot)
        return self._run(
            lambda differentiate: self._step([read(slot) for slot in slots], differentiate),
            lambda graphs: graphs.from_device(source, read),
        )

    @property
    def _is_first(self) -> bool:
        """Whether optimizers or penalties create their states in this step, which is therefore run eagerly.

        This depends only on the number of the step, so that a resumed training runs it in the same way.
        """
        return self._state.steps_done in self._first_uses

    def _run(
        self,
        eagerly: Callable[[Differentiate | None], dict[str, Tensor]],
        captured: Callable[[GraphedStep], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        check_gradients_enabled()
        average = self._state.average
        with self._state.turns:
            self._state.restore_train_mode()
            if average is not None and average.prepare(self._state.generator):
                self.reset()
            updates_generator = self._step.updates_generator
            self._state.is_between_steps = False
            results = self._try(eagerly, captured)
            self._state.finish_step(results, has_updated_generator=updates_generator)
        return results

    def _try(
        self,
        eagerly: Callable[[Differentiate | None], dict[str, Tensor]],
        captured: Callable[[GraphedStep], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Run the step in the present mode, or in the next simpler one while that is not possible."""
        if self._is_first:
            with undone_if_refused(self._state):  # a half that cannot be trained is found after the other one's update
                return eagerly(None)
        if self.mode == "eager":
            return eagerly(None)
        try:
            if (hook := self._hooks.found()) is not None:
                raise CannotCaptureError(hook)
            self._count_constants()
            if "cuda_graph" not in self.mode:
                return self._run_compiled(eagerly)
            if self._graphs is None:
                self._graphs = GraphedStep(self._step, self._halves)
            return captured(self._graphs)
        except NewStatesError:  # the next step finds them, and can be captured
            return eagerly(None)
        except CannotCaptureError as error:
            self._fall_back(error)
        return self._try(eagerly, captured)

    def _count_constants(self) -> None:
        """Raise `CannotCaptureError` if a number that a compiled or captured step holds changes too often.

        Each of its values needs a program of its own.
        """
        self._runs += 1
        self._constants.add(self._step.count_constants())
        if len(self._constants) > _FREE_PROGRAMS + self._runs // _STEPS_PER_PROGRAM:
            raise CannotCaptureError(
                f"{self._step.constants.changed} keeps changing, and each of its values needs a program of its own"
            )

    def _run_compiled(self, eagerly: Callable[[Differentiate | None], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Run the step with compiled halves. If one of them cannot be built, nothing has changed."""
        signature = (self._step.signature(), *((one.shape, one.dtype) for one, _ in self._newest))
        if signature not in self._compiled:
            # D's half would have updated D before G's half fails to compile; a run that is undone compiles both first
            with undone(self._state):
                eagerly(self._halves)
            self._compiled.add(signature)
        return eagerly(self._halves)

    def _fall_back(self, error: CannotCaptureError) -> None:
        can_capture = self.mode == "compile+cuda_graph" and isinstance(error, CannotCompileError)
        mode = "cuda_graph" if can_capture else "eager"
        warn(f"execution {self._requested!r} falls back to {mode!r}: {error}", ExecutionWarning)
        self.mode, self.reason = mode, str(error)
        self.reset()

    def explain(self) -> Explanation:
        """Return how steps are run. A step's kernels are counted by profiling a step that is undone."""
        return Explanation(
            requested=self._requested,
            mode=self.mode,
            reason=self.reason,
            programs=sum(len(one) for one in (self._graphs, self._halves) if one is not None),
            kernels=self._count_kernels(),
            compile_seconds=self._halves.compile_seconds if self._halves is not None else 0.0,
            capture_seconds=self._graphs.capture_seconds if self._graphs is not None else 0.0,
            pool_bytes=self._graphs.pool_bytes if self._graphs is not None else 0,
        )

    def _count_kernels(self) -> int | None:
        device, graph = self._state.device, self._graphs.newest if self._graphs is not None else None
        if device.type != "cuda" or (graph is None and not self._newest):
            return None
        with undone(self._state):
            torch.cuda.synchronize(device)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                if graph is None:
                    self._step(self._newest, self._halves)
                else:
                    graph.replay()
                torch.cuda.synchronize(device)
        events: list[Any] = list(profile.events() or [])
        return sum(event.device_type.name == "CUDA" and not _is_copy(event.name) for event in events)


def _is_copy(name: str) -> bool:
    return name.lower().startswith(("memcpy", "memset"))
