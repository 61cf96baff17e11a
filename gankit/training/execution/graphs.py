"""A whole step as one CUDA graph, which is replayed without the host.

There is one graph for each signature: the shapes of the batches, the penalties that are due, the loss that is active.
The host only chooses which one to replay. Building a graph leaves no trace: weights, buffers, optimizer states and
random generators are put back, so that the bits of a step do not depend on when its graph was built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import CannotCaptureError
from gankit.protocols import DeviceBatches
from gankit.training.execution.undo import undone
from gankit.training.step import learning_rates
from gankit.training.step.batches import CheckedBatch
from gankit.training.step.constants import counts_refused, description
from gankit.training.step.step import Differentiate, Step

_WARM_UPS = 3
_MOST_GRAPHS = 32


class GraphContext(StepContext):
    """A `StepContext` that refuses what a captured step cannot contain.

    Example:
        >>> GraphContext(discriminator=torch.nn.Flatten(0), real=torch.zeros(2, 1)).logits("real")
        tensor([0., 0.])
    """

    @property
    @override
    def step(self) -> int:
        """Refused: every replay would see the number of the step that was captured."""
        raise CannotCaptureError("a part reads context.step, which changes from step to step")


class NewStatesError(CannotCaptureError):
    """An optimizer creates the states of parameters in the step, as after their `requires_grad_(True)`.

    A graph would create them again in each replay.
    """


class GraphedStep:
    """A training step as CUDA graphs.

    Args:
        step: The step that is captured.
        differentiate: How it differentiates a half; None for the eager way.

    Attributes:
        capture_seconds: The time that warming up and capturing has taken so far, in seconds.
        pool_bytes: The device memory that the graphs hold, in bytes.
        newest: The graph that was replayed last, or None.

    Example:
        >>> from gankit.presets import ring
        >>> if torch.cuda.is_available():
        ...     trainer = ring(device="cuda", execution="cuda_graph").fit(ring.batches(device="cuda"), steps=3)
        ...     assert trainer.explain().programs == 1
    """

    def __init__(self, step: Step, differentiate: Differentiate | None = None) -> None:
        self._step = step
        if differentiate is None:
            differentiate = partial(step.differentiate_eagerly, make_context=GraphContext)
        self._differentiate: Differentiate = differentiate
        self._device = step.state.device
        self._graphs: dict[Any, CapturedStep] = {}
        self._sources: list[DeviceBatches] = []
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        self.capture_seconds: float = 0.0
        self.pool_bytes: int = 0
        self.newest: CapturedStep | None = None

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._graphs)

    def __call__(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on these batches, which are copied to where the graph reads them."""
        key = (*self._signature(), *((real.shape, None if c is None else (c.shape, c.dtype)) for real, c in batches))
        graph = self._graphs.get(key)
        if graph is None:
            places = [(real.clone(), None if c is None else c.clone()) for real, c in batches]
            graph = self._build(key, lambda: places, places)
        for (real, condition), (real_place, condition_place) in zip(batches, graph.places, strict=True):
            real_place.copy_(real)
            if condition is not None and condition_place is not None:
                condition_place.copy_(condition)
        self.newest = graph
        return graph.replay()

    def from_device(self, source: DeviceBatches, read: Callable[[int], CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on batches that the graph itself draws from `source`.

        Args:
            source: Batches on the device, which the host has already advanced, once per batch.
            read: A function that reads one of them, using device operations only.
        """
        count = self._step.options.discriminator_steps
        key = (*self._signature(), id(source))
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._build(key, lambda: [read(slot) for slot in range(count)], [], source.generators)
            # a reference, because the graph reads the source's memory and the key contains its id
            self._sources.append(source)
        self.newest = graph
        return graph.replay()

    def _build(
        self,
        key: Any,
        batches: Callable[[], list[CheckedBatch]],
        places: list[CheckedBatch],
        generators: Iterable[torch.Generator] = (),
    ) -> CapturedStep:
        """Warm up and capture the step that has a key.

        Args:
            key: What the graph is stored under.
            batches: A function that returns the batches, or draws them with device operations.
            places: The tensors that the batches of later steps are copied into; none if the graph draws them.
            generators: The random generators that drawing the batches uses.
        """
        if len(self._graphs) >= _MOST_GRAPHS:
            raise CannotCaptureError(
                f"{_MOST_GRAPHS} different steps were captured already, because a number that a graph holds, such as a "
                "learning rate that is no tensor, or the shape of the batches, keeps changing"
            )
        started, held = time.perf_counter(), torch.cuda.memory_reserved(self._device)
        state, drawn_from = self._step.state, list(generators)
        # A graph reads and writes fixed addresses. If warming up exchanges a tensor for another, replays would go on
        # with the old one.
        tensors, entries = {id(tensor) for tensor in state.tensors()}, _entries(state.optimizers)

        def run() -> dict[str, Tensor]:
            return self._step(batches(), self._differentiate)

        owners = [*self._step.constant_owners(), state.latent]
        with counts_refused(owners, CannotCaptureError), undone(state, drawn_from):
            self._warm_up(run)
            if _entries(state.optimizers) != entries:
                raise NewStatesError("an optimizer creates states of parameters")
            if {id(tensor) for tensor in state.tensors()} != tensors:
                raise CannotCaptureError("a part or an optimizer replaces a tensor of its state by another one")
        with counts_refused(owners, CannotCaptureError):
            graph = self._capture(run, places, [*state.randomness.noises, *drawn_from])
        self._graphs[key] = graph
        self.capture_seconds += time.perf_counter() - started
        self.pool_bytes += max(0, torch.cuda.memory_reserved(self._device) - held)
        return graph

    def _warm_up(self, run: Callable[[], object]) -> None:
        """Run the step on the stream of the capture, so that what is created once exists before it.

        From the second run on, waiting for the device is an error, because a captured step cannot wait.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        before = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.stream(self._stream):
                run()  # the first run may compile, which may wait for the device
                torch.cuda.set_sync_debug_mode("error")
                for _ in range(_WARM_UPS - 1):
                    run()
        except CannotCaptureError:
            raise
        except Exception as error:  # parts of users run here, which may raise anything
            raise CannotCaptureError(_reason(error)) from error
        finally:
            torch.cuda.set_sync_debug_mode(before)
            current.wait_stream(self._stream)

    def _capture(
        self, run: Callable[[], dict[str, Tensor]], places: list[CheckedBatch], generators: Sequence[torch.Generator]
    ) -> CapturedStep:
        graph = torch.cuda.CUDAGraph()
        # a failed capture leaves a generator in a capturing state, which is then replaced by a copy made here
        drawn_from = [*generators, torch.cuda.default_generators[self._device.index]]
        spare = [generator.clone_state() for generator in drawn_from]
        for generator in generators:  # torch registers its default generator itself
            graph.register_generator_state(generator)  # pyright: ignore[reportUnknownMemberType]
        try:
            # other threads, such as those of a DataLoader, may keep using the device
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                results = run()
                values = torch.stack(list(results.values()))
        except Exception as error:  # as above
            for generator, own in zip(drawn_from, spare, strict=True):
                generator.graphsafe_set_state(own)
            raise CannotCaptureError(_reason(error)) from error
        return CapturedStep(graph, list(results), values, places)

    def _signature(self) -> Iterator[object]:
        yield from self._step.signature()
        yield description(self._step.state.latent)  # which draws within the graph
        for optimizer in self._step.state.optimizers:
            yield optimizer, learning_rates.constants(optimizer)


class CapturedStep:
    """One captured step.

    Args:
        graph: A `torch.cuda.CUDAGraph`.
        names: The names of its results.
        values: The tensor that it writes them to, `(results, ...)`.
        places: The tensors that it reads its batches from; none if it draws them itself.
    """

    def __init__(self, graph: Any, names: list[str], values: Tensor, places: list[CheckedBatch]) -> None:
        self.graph = graph
        self.places = places
        self._names = names
        self._values = values

    def replay(self) -> dict[str, Tensor]:
        """Make the step again, and return its named results."""
        self.graph.replay()
        # a copy, made by one kernel, because the next replay overwrites the values
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))


def _entries(optimizers: Iterable[Optimizer]) -> set[Tensor]:
    """Return the parameters that have a state."""
    states = (cast("Mapping[Tensor, Mapping[str, Any]]", optimizer.state) for optimizer in optimizers)
    return {parameter for one in states for parameter, own in one.items() if own}


def _reason(error: Exception) -> str:
    """Return what made a step impossible to capture, in one line."""
    reason = str(error).strip().partition("\n")[0]
    if "synchroniz" in reason or "capture" in reason:
        return f"something in the step waits for the device, as .item() does ({reason})"
    return f"{type(error).__name__}: {reason}"
