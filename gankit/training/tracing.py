"""A half of a step as one function of tensors, with its gradient inside: traced, then compiled.

torch.compile alone stops at gradient penalties: it refuses to differentiate a compiled function twice. So the half is
run once on fake tensors, autograd included, and what it did is written down as one graph of tensor operations
(`make_fx`). In that graph a penalty's derivative is an operation like any other, and Inductor compiles the whole.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.stateless import _reparametrize_module  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import CannotCompileError
from gankit.protocols import Half
from gankit.training.modes import frozen
from gankit.training.step.step import Step, put_gradients, trained


@dataclasses.dataclass(frozen=True)
class Noise:
    """A draw that a penalty makes in the middle of a half, made before it instead.

    Args:
        kind: `normal`, or `uniform` in [0, 1).
        shape: of the draw.
        stride: of the draw, which decides the order in which it is filled.
        dtype: of the draw.

    Example:
        >>> Noise("uniform", (2, 3), (3, 1), torch.float32).kind
        'uniform'
    """

    kind: Literal["normal", "uniform"]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def like(cls, kind: Literal["normal", "uniform"], x: Tensor) -> Noise:
        """Return the draw that fills something like `x`."""
        empty = torch.empty_like(x)
        return cls(kind, tuple(empty.shape), tuple(empty.stride()), empty.dtype)

    def empty(self, device: torch.device) -> Tensor:
        """Return the tensor to fill."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)


class Tape:
    """The draws of one half, in their order: written down at first, then played back.

    Attributes:
        draws: what was asked for.
        played: the values to play back, or None while writing.

    Example:
        >>> tape = Tape()
        >>> x = tape.next("normal", torch.zeros(3))
        >>> x.shape, len(tape.draws)
        (torch.Size([3]), 1)
    """

    def __init__(self) -> None:
        self.draws: list[Noise] = []
        self.played: list[Tensor] | None = None
        self._position = 0

    def next(self, kind: Literal["normal", "uniform"], x: Tensor) -> Tensor:
        """Return the next draw, in the shape of `x`."""
        if self.played is None:
            self.draws.append(Noise.like(kind, x))
            return torch.zeros_like(x, requires_grad=False)
        self._position += 1
        return self.played[self._position - 1]

    def play(self, values: list[Tensor]) -> None:
        """Give out these values from now on."""
        self.played, self._position = values, 0


class TracedContext(StepContext):
    """A `StepContext` whose noise comes from a tape, and which refuses what a graph cannot hold.

    Example:
        >>> context = TracedContext(Tape(), discriminator=nn.Flatten(0), real=torch.zeros(2, 1))
        >>> context.normal_like(context.real).shape
        torch.Size([2, 1])
    """

    def __init__(self, tape: Tape, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tape = tape

    @property
    @override
    def step(self) -> int:
        """Refused: the number would stay the same in every later step."""
        raise CannotCompileError("a part reads context.step, which changes from step to step")

    @override
    def normal_like(self, x: Tensor) -> Tensor:
        """The tape's next draw."""
        return self._tape.next("normal", x)

    @override
    def uniform_like(self, x: Tensor) -> Tensor:
        """The tape's next draw."""
        return self._tape.next("uniform", x)

    @override
    def changed(self, x: Tensor, change: Callable[..., Tensor]) -> Tensor:
        """Refused: an augmentation draws from a generator by itself."""
        raise CannotCompileError("an augmentation draws from a generator, which a compiled half cannot")


class TracedHalf:
    """One half of a step, compiled for one signature.

    Args:
        step: of the trainer.
        half: which.
        real: real samples of the right shape.
        condition: likewise, or None.
        latent: latents of the right shape.

    Attributes:
        trace_seconds: how long tracing took. Compiling happens at the first call.

    Raises:
        CannotCompileError: for a half that cannot be traced, with the reason.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> real, latent = torch.randn(4, 2), trainer.draw_latents(4, trainer.noise)
        >>> TracedHalf(Step(trainer), "discriminator", real, None, latent).trace_seconds > 0
        True
    """

    def __init__(self, step: Step, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor) -> None:
        started = time.perf_counter()
        self._step = step
        self._half: Half = half
        trainer = step.trainer
        self._network = trainer.generator if half == "generator" else trainer.discriminator
        self._names: list[str] = []
        self._tape = Tape()
        inputs = [*self._state(), real, *([] if condition is None else [condition]), latent]
        self._has_condition = condition is not None
        with _refusals(), _unchanged([trainer.loss, *trainer.regularizers.values()]):
            self._write_tape(inputs)
            played = [noise.empty(trainer.device) for noise in self._tape.draws]
            graph = make_fx(self._run, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs, *played)
        self.trace_seconds: float = time.perf_counter() - started
        self._compiled: Callable[..., list[Any]] = torch.compile(graph, dynamic=False)  # pyright: ignore[reportUnknownMemberType]

    def __call__(self, real: Tensor, condition: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        """Put the gradient into the network's parameters; return the named results."""
        trainer = self._step.trainer
        noise = [one.empty(trainer.device) for one in self._tape.draws]
        for one, tensor in zip(self._tape.draws, noise, strict=True):
            parts = [tensor] if trainer.replicas is None else list(tensor)
            for part, random in zip(parts, trainer.randomness.noises, strict=True):
                _ = part.normal_(generator=random) if one.kind == "normal" else part.uniform_(generator=random)
        given = [real, *([] if condition is None else [condition]), latent, *noise]
        parameters = trained(self._network)
        with torch.no_grad():
            outputs = self._compiled(*self._state(), *given)
        put_gradients(parameters, outputs[: len(parameters)])
        results = outputs[len(parameters) :]
        return dict(zip(self._names, results, strict=True))

    def _modules(self) -> list[nn.Module]:
        trainer = self._step.trainer
        parts = [part for part in (trainer.loss, *trainer.regularizers.values()) if isinstance(part, nn.Module)]
        return [trainer.generator, trainer.discriminator, *parts]

    def _state(self) -> list[Tensor]:
        """Every parameter and buffer that the half can read, detached."""
        return [tensor.detach() for module in self._modules() for tensor in _state(module).values()]

    def _write_tape(self, inputs: list[Tensor]) -> None:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with mode:
            self._run(*[mode.from_tensor(one) for one in inputs])

    def _run(self, *inputs: Tensor) -> list[Tensor | None]:
        """The half itself, on whatever tensors stand for the state."""
        trainer, given = self._step.trainer, list(inputs)
        with ExitStack() as stack:
            gradients_of: list[Tensor] = []
            placed: list[tuple[nn.Module, dict[str, Tensor]]] = []
            if self._half == "generator":
                stack.enter_context(frozen(trainer.discriminator))
            wanted = {id(parameter) for parameter in trained(self._network)}
            for module in self._modules():
                own: dict[str, Tensor] = {}
                for name, tensor in _state(module).items():
                    own[name] = given.pop(0)
                    if id(tensor) in wanted:
                        own[name] = own[name].detach().requires_grad_()
                        gradients_of.append(own[name])
                stack.enter_context(_reparametrize_module(module, own))
                placed.append((module, own))
            real = given.pop(0)
            condition = given.pop(0) if self._has_condition else None
            latent = given.pop(0).detach()
            if self._tape.draws:
                self._tape.play(given)
            make_context = self._step.make_context
            self._step.make_context = partial(TracedContext, self._tape)
            try:
                total, results = self._step.terms(self._half, real, condition, latent)
            finally:
                self._step.make_context = make_context
            gradients = torch.autograd.grad(total, gradients_of, allow_unused=True)
            for module, own in placed:
                for name, tensor in _state(module).items():
                    if tensor is not own[name]:
                        raise CannotCompileError(
                            f"{type(module).__name__} puts another tensor in the place of its {name!r} instead of "
                            "changing it in place"
                        )
        self._names = list(results)
        detached = [cast("Tensor | None", one) for one in gradients]  # None where the objective does not reach
        return [*(None if one is None else one.detach() for one in detached), *results.values()]


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@contextmanager
def _unchanged(parts: Sequence[object]) -> Generator[None]:
    """Refuse parts that put something else into an attribute, and put back what was there."""
    owns: list[dict[str, Any]] = [getattr(part, "__dict__", {}) for part in parts]
    befores = [dict(own) for own in owns]
    changed: list[str] = []
    try:
        yield
    finally:
        for part, own, before in zip(parts, owns, befores, strict=True):
            names = [name for name in own.keys() | before.keys() if own.get(name) is not before.get(name)]
            changed += [f"{type(part).__name__} changes its attribute {name!r}, which is no buffer" for name in names]
            if names:
                own.clear()
                own.update(before)
    if changed:
        raise CannotCompileError(changed[0])


@contextmanager
def _refusals() -> Generator[None]:
    """Turn whatever a trace stumbles over into one sentence."""
    try:
        yield
    except CannotCompileError:
        raise
    except Exception as error:  # user code on tensors without values: anything can come out of it
        reason = str(error).strip().partition("\n")[0]
        raise CannotCompileError(f"{type(error).__name__}: {reason}") from error


class TracedHalves:
    """Compiled halves by what they depend on; the step's way to differentiate in the compiled modes.

    Args:
        step: of the trainer.

    Attributes:
        compile_seconds: how long tracing and compiling took so far.

    Example:
        >>> from gankit.presets import ring
        >>> len(TracedHalves(Step(ring(device="cpu"))))
        0
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._halves: dict[Any, TracedHalf] = {}
        self.compile_seconds: float = 0.0

    def __len__(self) -> int:
        """How many halves were compiled."""
        return len(self._halves)

    def __call__(self, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        """Differentiate one half."""
        key = (half, self._step.signature(), *map(_form, (real, condition, latent)))
        if key in self._halves:
            return self._halves[key](real, condition, latent)
        started = time.perf_counter()
        traced = TracedHalf(self._step, half, real, condition, latent)
        with _refusals():
            results = traced(real, condition, latent)
        self.compile_seconds += time.perf_counter() - started
        self._halves[key] = traced
        return results


def _form(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.stride())
