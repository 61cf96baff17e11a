"""How a step is run: operation by operation, compiled, as one CUDA graph, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gankit.errors import BadValueError, CannotCaptureError, CannotCompileError, DeviceError, ExecutionWarning, warn
from gankit.protocols import DeviceBatches
from gankit.training.graphs import GraphedStep, TrainingState, make_capturable
from gankit.training.step.step import CheckedBatch, Differentiate, Step
from gankit.training.tracing import TracedHalves

if TYPE_CHECKING:
    from gankit.training.trainer import AdversarialTrainer

Mode = Literal["eager", "compile", "cuda_graph", "compile+cuda_graph"]
Execution = Literal["auto", "eager", "compile", "cuda_graph", "compile+cuda_graph"]

EXECUTIONS: tuple[Execution, ...] = ("auto", "eager", "compile", "cuda_graph", "compile+cuda_graph")
"""The ways to run a step."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """How a trainer's steps are run, and what that took; `str` of it is one line a fact.

    Args:
        requested: the `execution` that the trainer was given.
        mode: the way its steps are run.
        reason: why that way.
        programs: how many compiled halves or captured steps there are.
        kernels: how many kernels a step launches on a GPU; None on the CPU, or before the second step.
        compile_seconds: spent on tracing and compiling.
        capture_seconds: spent on warming up and capturing, compiling included.
        pool_bytes: device memory held by captured steps.

    Example:
        >>> Explanation("auto", "eager", "the CPU has no graphs to capture", 0, None, 0.0, 0.0, 0).mode
        'eager'
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
        """The facts, a line each."""
        return "\n".join(f"{name.replace('_', ' '):16}{value}" for name, value in vars(self).items())


class Executor:
    """Runs a trainer's steps in the way that was asked for, or operation by operation where that cannot be.

    Args:
        trainer: whose steps.
        step: what one step computes.
        requested: an `Execution`.

    Attributes:
        mode: the way steps are run.
        reason: why.

    Raises:
        BadValueError: for an unknown execution, or one that does not go with the trainer's options.
        DeviceError: for CUDA graphs without CUDA.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu", execution="eager")
        >>> Executor(trainer, Step(trainer), "auto").mode
        'eager'
    """

    def __init__(self, trainer: AdversarialTrainer, step: Step, requested: Execution) -> None:
        if requested not in EXECUTIONS:
            raise BadValueError(f"execution must be one of {', '.join(EXECUTIONS)}, got {requested!r}")
        is_cuda = trainer.device.type == "cuda"
        if "cuda_graph" in requested and not is_cuda:
            raise DeviceError(f"execution {requested!r} needs a CUDA device, got {str(trainer.device)!r}")
        if "compile" in requested and trainer.share_generator_forward:
            raise BadValueError(
                "share_generator_forward keeps the generator's graph from one half to the other, which execution "
                f"'eager' and 'cuda_graph' can, got {requested!r}"
            )
        together = trainer.ranks.size > 1
        if together and "cuda_graph" in requested:
            raise BadValueError(f"several ranks exchange gradients, which execution 'eager' can, got {requested!r}")
        if together and "compile" in requested and trainer.synchronize_batch_norm:
            raise BadValueError(
                f"synchronize_batch_norm exchanges within a half, which execution 'eager' can, got {requested!r}"
            )
        self._trainer = trainer
        self._step = step
        self._requested: Execution = requested
        self.mode: Mode
        if requested == "auto":
            captures = is_cuda and not together
            self.mode = "cuda_graph" if captures else "eager"
            self.reason: str = "a CUDA device captures its steps" if captures else "only a CUDA device captures steps"
            if is_cuda and together:
                self.reason = "several ranks exchange gradients"
        else:
            self.mode, self.reason = requested, "as asked for"
        self._halves: TracedHalves | None = None
        self._graphs: GraphedStep | None = None
        self._newest: Sequence[CheckedBatch] = ()
        self._tried: set[object] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what was compiled and captured: the tensors it was made for are others now."""
        self._halves = TracedHalves(self._step) if "compile" in self.mode else None
        self._step.differentiate = self._differentiate
        self._graphs = None
        self._tried = set()
        for optimizer in (self._trainer.generator_optimizer, self._trainer.discriminator_optimizer):
            skips_on_device = self._trainer.device.type == "cuda" and self._trainer.watch.policy == "skip"
            if "cuda_graph" in self.mode or skips_on_device:
                make_capturable(optimizer, self._trainer.device)
            elif self._trainer.device.type == "cpu":
                for group in optimizer.param_groups:
                    if group.get("capturable"):  # in a state from a captured training; refused on the CPU
                        group["capturable"] = False
                        group["lr"] = float(group["lr"])

    @property
    def _differentiate(self) -> Differentiate:
        return self._step.differentiate_eagerly if self._halves is None else self._halves

    def run(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on batches that are there."""
        self._newest = batches
        return self._run(lambda: self._step(batches), lambda graphs: graphs(batches))

    @property
    def draws_batches(self) -> bool:
        """Whether the next step can draw its batches itself, by `run_from`."""
        return "cuda_graph" in self.mode and not self._is_first

    def run_from(self, source: DeviceBatches, read: Callable[[int], CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on batches that it draws from the device; only where `draws_batches`."""
        slots = range(self._trainer.discriminator_steps)
        for slot in slots:  # once, however often a way to run the step fails
            source.advance(slot)
        return self._run(
            lambda: self._step([read(slot) for slot in slots]), lambda graphs: graphs.from_device(source, read)
        )

    @property
    def _is_first(self) -> bool:
        """Whether a network, or a part, is used for the first time: optimizers and penalties then make their states."""
        trainer = self._trainer
        begins = {0, trainer.discriminator_warmup_steps}
        for part in trainer.regularizers.values():
            start = trainer.discriminator_warmup_steps if getattr(part, "half", "") == "generator" else 0
            begins.add(-(-start // part.every) * part.every)
        return trainer.steps_done in begins

    def _run(
        self, eagerly: Callable[[], dict[str, Tensor]], captured: Callable[[GraphedStep], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        if (
            self._is_special() and self._is_first
        ):  # a rule of the step's number alone, so that resuming does not change it
            self._step.differentiate = self._step.differentiate_eagerly
            try:
                return eagerly()
            finally:
                self._step.differentiate = self._differentiate
        while self._is_special():
            try:
                if "cuda_graph" not in self.mode:
                    return self._compiled(eagerly)
                if self._graphs is None:
                    self._graphs = GraphedStep(self._step)
                results = captured(self._graphs)
                if self._trainer.average is not None and self._step.updates_generator:
                    self._trainer.average.updates_done += 1  # the replay moved the weights, the host counts
                return results
            except CannotCaptureError as error:
                self._fall_back(error)
        return eagerly()

    def _is_special(self) -> bool:
        return self.mode != "eager"

    def _compiled(self, eagerly: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Run with compiled halves; where one cannot be built, nothing has happened."""
        signature = (self._step.signature(), *((one.shape, one.dtype) for one, _ in self._newest))
        if signature not in self._tried:
            with TrainingState(self._trainer).restored():
                eagerly()
            self._tried.add(signature)
        return eagerly()

    def _fall_back(self, error: CannotCaptureError) -> None:
        can_capture = self.mode == "compile+cuda_graph" and isinstance(error, CannotCompileError)
        mode = "cuda_graph" if can_capture else "eager"
        warn(f"execution {self._requested!r} falls back to {mode!r}: {error}", ExecutionWarning)
        self.mode, self.reason = mode, str(error)
        self.reset()

    def explain(self) -> Explanation:
        """Return how steps are run; counts a step's kernels by profiling one and undoing it."""
        return Explanation(
            requested=self._requested,
            mode=self.mode,
            reason=self.reason,
            programs=sum(len(one) for one in (self._graphs, self._halves) if one is not None),
            kernels=self._kernels(),
            compile_seconds=self._halves.compile_seconds if self._halves is not None else 0.0,
            capture_seconds=self._graphs.capture_seconds if self._graphs is not None else 0.0,
            pool_bytes=self._graphs.pool_bytes if self._graphs is not None else 0,
        )

    def _kernels(self) -> int | None:
        device, graph = self._trainer.device, self._graphs.newest if self._graphs is not None else None
        if device.type != "cuda" or (graph is None and not self._newest):
            return None
        with TrainingState(self._trainer).restored():
            torch.cuda.synchronize(device)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                if graph is None:
                    self._step(self._newest)
                else:
                    graph.replay()
                torch.cuda.synchronize(device)
        events: list[Any] = list(profile.events() or [])
        return sum(event.device_type.name == "CUDA" and not _is_copy(event.name) for event in events)


def _is_copy(name: str) -> bool:
    return name.lower().startswith(("memcpy", "memset"))
