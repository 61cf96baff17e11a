"""A whole step as one CUDA graph, replayed without the host.

One graph a signature: the shapes of the batches, the penalties that are due, the loss that is active. The host only
chooses which one to replay. Building one leaves no trace: weights, buffers, optimizer states and random generators are
put back as they were, so that a step's bits do not depend on when its graph was built.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import CannotCaptureError
from gankit.protocols import DeviceBatches
from gankit.training.step.step import CheckedBatch, Step

if TYPE_CHECKING:
    from gankit.training.trainer import AdversarialTrainer

_WARM_UPS = 3
_MOST_GRAPHS = 32


class GraphContext(StepContext):
    """A `StepContext` that refuses what a captured step cannot hold.

    Example:
        >>> GraphContext(discriminator=nn.Flatten(0), real=torch.zeros(2, 1)).logits("real")
        tensor([0., 0.])
    """

    @property
    @override
    def step(self) -> int:
        """Refused: the number would stay the same in every replay."""
        raise CannotCaptureError("a part reads context.step, which changes from step to step")


class TrainingState:
    """Everything a step changes, to put it back as it was.

    Args:
        trainer: whose.
        generators: further random generators that a step draws from.

    Example:
        >>> from gankit.presets import ring
        >>> trainer, batch = ring(device="cpu"), torch.randn(4, 2)
        >>> _ = trainer.step(batch)
        >>> before = trainer.generator.network[-1].weight.detach().clone()
        >>> with TrainingState(trainer).restored():
        ...     _ = trainer.step(batch)
        >>> torch.equal(trainer.generator.network[-1].weight, before)
        True
    """

    def __init__(self, trainer: AdversarialTrainer, generators: Iterable[torch.Generator] = ()) -> None:
        self._trainer = trainer
        self.generators: list[torch.Generator] = [*trainer.randomness.noises, *generators]

    def tensors(self) -> list[Tensor]:
        """Return the networks' tensors, the average's, those of stateful parts, and the optimizers'."""
        trainer = self._trainer
        modules = [trainer.generator, trainer.discriminator]
        # the active loss of a schedule is no part itself; twice does no harm
        modules += [part for part in (*trainer.parts(), trainer.loss) if isinstance(part, nn.Module)]
        if trainer.average is not None:
            modules.append(trainer.average.network)
        found = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        found += [trainer.watch.largest_result, trainer.watch.skipped]
        for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
            states = cast("Iterable[dict[str, Any]]", optimizer.state.values())
            found += [value for state in states for value in state.values() if isinstance(value, Tensor)]
        return found

    @contextmanager
    def restored(self) -> Generator[None]:
        """Put everything back afterwards, whatever happened."""
        trainer = self._trainer
        tensors = self.tensors()
        values = [tensor.detach().clone() for tensor in tensors]
        randoms = [generator.get_state() for generator in self.generators]
        default = trainer.randomness.default_state()
        optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
        others = [{p: copy.deepcopy(one) for p, one in _plain_state(optimizer).items()} for optimizer in optimizers]
        numbers = trainer.counters()
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            for generator, state in zip(self.generators, randoms, strict=True):
                generator.set_state(state)
            trainer.randomness.set_default_state(default)
            for optimizer, plain in zip(optimizers, others, strict=True):
                for parameter in optimizer.state.keys() - plain.keys():  # it was made in between
                    del optimizer.state[parameter]
                for parameter, state in plain.items():
                    optimizer.state[parameter].update(state)
            trainer.set_counters(numbers)


def _plain_state(optimizer: torch.optim.Optimizer) -> dict[Any, dict[str, Any]]:
    """An optimizer's state without its tensors."""
    states = cast("dict[Any, dict[str, Any]]", optimizer.state)
    return {p: {k: v for k, v in state.items() if not isinstance(v, Tensor)} for p, state in states.items()}


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let an optimizer count its steps, and read its learning rate, on the device, where its class can.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> adam = torch.optim.Adam(layer.parameters(), lr=0.1)
        >>> make_capturable(adam, torch.device("cpu"))
        >>> adam.param_groups[0]["capturable"], adam.param_groups[0]["lr"]
        (True, tensor(0.1000))
    """
    for group in optimizer.param_groups:
        if "capturable" not in group:
            continue
        group["capturable"] = True
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        for parameter in group["params"]:
            state = cast("dict[str, Any]", optimizer.state.get(parameter, {}))
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device, torch.float32)


class GraphedStep:
    """A trainer's step as CUDA graphs.

    Args:
        step: what is captured.

    Attributes:
        capture_seconds: how long warming up and capturing took so far.
        pool_bytes: device memory that the graphs hold.
        newest: the graph that was replayed last.

    Example:
        >>> from gankit.presets import ring
        >>> if torch.cuda.is_available():
        ...     trainer = ring(device="cuda", execution="cuda_graph").fit(ring.batches(device="cuda"), steps=3)
        ...     assert trainer.explain().programs == 1
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._trainer = step.trainer
        self._graphs: dict[Any, CapturedStep] = {}
        self._sources: list[DeviceBatches] = []
        self._stream = torch.cuda.Stream(step.trainer.device)
        self._pool = torch.cuda.graph_pool_handle()
        self.capture_seconds: float = 0.0
        self.pool_bytes: int = 0
        self.newest: CapturedStep | None = None

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __call__(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on these batches, which are copied to where the graph reads them."""
        key = (*self._signature(), *((real.shape, None if c is None else (c.shape, c.dtype)) for real, c in batches))
        graph = self._graphs.get(key)
        if graph is None:
            places = [(real.clone(), None if c is None else c.clone()) for real, c in batches]
            graph = self._built(key, lambda: places, places)
        for (real, condition), (real_place, condition_place) in zip(batches, graph.places, strict=True):
            real_place.copy_(real)
            if condition is not None and condition_place is not None:
                condition_place.copy_(condition)
        self.newest = graph
        return graph.replay()

    def from_device(self, source: DeviceBatches, read: Callable[[int], CheckedBatch]) -> dict[str, Tensor]:
        """Make one step on batches that the graph draws from `source` for itself.

        Args:
            source: which the host has advanced, once a batch.
            read: what reads one batch of it, with device operations alone.
        """
        count = self._trainer.discriminator_steps
        key = (*self._signature(), id(source))
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._built(key, lambda: [read(slot) for slot in range(count)], [], source.generators)
            self._sources.append(source)  # kept, since the graph reads its memory and its id is a part of the key
        self.newest = graph
        return graph.replay()

    def _built(
        self,
        key: Any,
        batches: Callable[[], list[CheckedBatch]],
        places: list[CheckedBatch],
        generators: Iterable[torch.Generator] = (),
    ) -> CapturedStep:
        if len(self._graphs) >= _MOST_GRAPHS:
            raise CannotCaptureError(
                f"{_MOST_GRAPHS} different steps were captured already, because a number that a graph holds, such as a "
                "learning rate that is no tensor, or the shape of the batches, keeps changing"
            )
        started, held = time.perf_counter(), torch.cuda.memory_reserved(self._trainer.device)
        state = TrainingState(self._trainer, generators)
        tensors = {id(tensor) for tensor in state.tensors()}
        step, make_context = self._step, self._step.make_context
        step.make_context = GraphContext
        try:
            with state.restored():
                self._warm_up(lambda: step(batches()))
                if {id(tensor) for tensor in state.tensors()} != tensors:
                    raise CannotCaptureError("a part or an optimizer puts another tensor in the place of its state")
            graph = self._captured(lambda: step(batches()), places, state)
        finally:
            step.make_context = make_context
        self._graphs[key] = graph
        self.capture_seconds += time.perf_counter() - started
        self.pool_bytes += max(0, torch.cuda.memory_reserved(self._trainer.device) - held)
        return graph

    def _warm_up(self, run: Callable[[], object]) -> None:
        """Run the step on the stream of the capture, which builds what is built once; find what waits for the host."""
        current = torch.cuda.current_stream(self._trainer.device)
        self._stream.wait_stream(current)
        before = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.stream(self._stream):
                run()  # compiles what is to be compiled, which may wait for the device
                torch.cuda.set_sync_debug_mode("error")
                for _ in range(_WARM_UPS - 1):
                    run()
        except CannotCaptureError:
            raise
        except Exception as error:  # user code runs here: anything can come out of it
            raise CannotCaptureError(_told(error)) from error
        finally:
            torch.cuda.set_sync_debug_mode(before)
            current.wait_stream(self._stream)

    def _captured(
        self, run: Callable[[], dict[str, Tensor]], places: list[CheckedBatch], state: TrainingState
    ) -> CapturedStep:
        graph = torch.cuda.CUDAGraph()
        # a capture that fails leaves a generator in the middle of it: then it goes on with a state of its own
        device = self._trainer.device
        drawn_from = [*state.generators, torch.cuda.default_generators[device.index]]
        spare = [generator.clone_state() for generator in drawn_from]
        for generator in state.generators:  # torch registers its default generator itself
            graph.register_generator_state(generator)  # pyright: ignore[reportUnknownMemberType]
        counters = self._trainer.counters()
        try:
            # other threads, such as a DataLoader's, may go on using the device
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                results = run()
                values = torch.stack(list(results.values()))
        except Exception as error:  # as above
            for generator, own in zip(drawn_from, spare, strict=True):
                generator.graphsafe_set_state(own)
            raise CannotCaptureError(_told(error)) from error
        finally:
            self._trainer.set_counters(counters)
        return CapturedStep(graph, list(results), values, places)

    def _signature(self) -> Iterator[object]:
        yield from self._step.signature()
        for optimizer in (self._trainer.generator_optimizer, self._trainer.discriminator_optimizer):
            # a rate that is no tensor is a part of the graph
            yield tuple(group["lr"] if isinstance(group["lr"], float) else None for group in optimizer.param_groups)


class CapturedStep:
    """One captured step.

    Args:
        graph: a `torch.cuda.CUDAGraph`.
        names: of its results.
        values: where it writes them, `(results, ...)`.
        places: where it reads the batches that are given to it.

    Example:
        >>> class Nothing:  # in the place of a graph
        ...     def replay(self): ...
        >>> CapturedStep(Nothing(), ["discriminator_loss"], torch.tensor([0.5]), []).replay()
        {'discriminator_loss': tensor(0.5000)}
    """

    def __init__(self, graph: Any, names: list[str], values: Tensor, places: list[CheckedBatch]) -> None:
        self.graph = graph
        self.places = places
        self._names = names
        self._values = values

    def replay(self) -> dict[str, Tensor]:
        """Make the step again; return its named results."""
        self.graph.replay()
        # a copy, since the next replay writes over the values; one kernel for all of them
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))


def _told(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    if "synchroniz" in reason or "capture" in reason:
        return f"something in the step waits for the device, as .item() does ({reason})"
    return f"{type(error).__name__}: {reason}"
