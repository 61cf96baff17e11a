"""A half of a step as one function of tensors that contains its own gradient: traced, then compiled.

torch.compile alone cannot compile gradient penalties, since it refuses to differentiate a compiled function twice.
Therefore the half is run once on fake tensors, including autograd, and `make_fx` records what it did as one graph of
tensor operations. In that graph the derivative of a penalty is an operation like any other, and Inductor compiles the
whole.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.stateless import _reparametrize_module  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import CannotCompileError
from gankit.protocols import Half
from gankit.training.parallel.replicas import named_tensors
from gankit.training.step.constants import counts_refused
from gankit.training.step.derivatives import gradients_of
from gankit.training.step.dry_run import unchanged
from gankit.training.step.gradients import put_gradients, trainable_parameters
from gankit.training.step.step import Step


@dataclasses.dataclass(frozen=True)
class Noise:
    """The form of random numbers that a penalty draws in the middle of a half.

    A compiled half cannot draw from a generator. The numbers are drawn before it and passed to it.

    Args:
        kind: `normal`, or `uniform` in [0, 1).
        shape: The shape of the tensor.
        stride: Its strides, which decide in which order it is filled.
        dtype: Its type.
    """

    kind: Literal["normal", "uniform"]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def like(cls, kind: Literal["normal", "uniform"], x: Tensor) -> Noise:
        """Return the form of random numbers that fill a tensor like `x`."""
        empty = torch.empty_like(x)
        return cls(kind, tuple(empty.shape), tuple(empty.stride()), empty.dtype)

    def empty(self, device: torch.device) -> Tensor:
        """Return an empty tensor of this form."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)


class Tape:
    """The random draws of one half, in order: recorded in a first run, then played back.

    Attributes:
        draws: The forms of the draws that were recorded.
        played: The values to play back, or None while recording.

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
        """Return the next draw, of the shape of `x`: zeros while recording."""
        if self.played is None:
            self.draws.append(Noise.like(kind, x))
            return torch.zeros_like(x, requires_grad=False)
        self._position += 1
        return self.played[self._position - 1]

    def play(self, values: list[Tensor]) -> None:
        """Return these values, one after another, from the next draw on."""
        self.played, self._position = values, 0


class TracedContext(StepContext):
    """A `StepContext` whose random numbers come from a tape, and which refuses what a compiled half cannot contain.

    Example:
        >>> context = TracedContext(Tape(), discriminator=torch.nn.Flatten(0), real=torch.zeros(2, 1))
        >>> context.normal_like(context.real).shape
        torch.Size([2, 1])
    """

    def __init__(self, tape: Tape, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tape = tape

    @property
    @override
    def step(self) -> int:
        """Refused: every later step would see the number of the step that was traced."""
        raise CannotCompileError("a part reads context.step, which changes from step to step")

    @override
    def normal_like(self, x: Tensor) -> Tensor:
        """Return the next draw of the tape."""
        return self._tape.next("normal", x)

    @override
    def uniform_like(self, x: Tensor) -> Tensor:
        """Return the next draw of the tape."""
        return self._tape.next("uniform", x)

    @override
    def changed(self, x: Tensor, change: Callable[..., Tensor]) -> Tensor:
        """Refused: an augmentation draws from a generator itself."""
        raise CannotCompileError("an augmentation draws from a generator, which a compiled half cannot")


class TracedHalf:
    """One half of a step, compiled for one signature.

    Args:
        step: The step that the half belongs to.
        half: Which half it is.
        real: Real samples of the right shape.
        condition: A condition of the right shape, or None.
        latent: Latents of the right shape.

    Raises:
        CannotCompileError: for a half that cannot be traced, with the reason.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> step = Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)
        >>> real, latent = torch.randn(4, 2), trainer.draw_latents(4, trainer.noise)
        >>> len(TracedHalf(step, "discriminator", real, None, latent).names)
        6
    """

    def __init__(self, step: Step, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor) -> None:
        self._step = step
        self._state = step.state
        self._half: Half = half
        self._has_condition = condition is not None
        self._tape = Tape()
        self.names: list[str] = []
        inputs = [*self._module_tensors(), real, *([] if condition is None else [condition]), latent]
        networks = (self._state.generator, self._state.discriminator)
        parts, owners = step.objectives.parts(self._state.steps_done), step.constant_owners()
        with _refusals(), unchanged(*networks), _unchanged(parts), counts_refused(owners, CannotCompileError):
            # The first run, on fake tensors, only finds out which random numbers the half draws. The second run
            # receives them as inputs, and is recorded.
            mode = FakeTensorMode(allow_non_fake_inputs=True)
            with mode:
                self._run(*[mode.from_tensor(one) for one in inputs])
            noise = [one.empty(self._state.device) for one in self._tape.draws]
            graph = make_fx(self._run, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs, *noise)
        # torch compiles at the first call
        self._compiled: Callable[..., list[Any]] = torch.compile(graph, dynamic=False)  # pyright: ignore[reportUnknownMemberType]

    def __call__(self, real: Tensor, condition: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        """Put the gradient into the network's parameters, and return the named results."""
        state = self._state
        noise = [one.empty(state.device) for one in self._tape.draws]
        for one, tensor in zip(self._tape.draws, noise, strict=True):
            # each replica's part is drawn from its own generator, as in an eager step
            parts = [tensor] if state.replicas is None else list(tensor)
            for part, random in zip(parts, state.randomness.noises, strict=True):
                _ = part.normal_(generator=random) if one.kind == "normal" else part.uniform_(generator=random)
        given = [real, *([] if condition is None else [condition]), latent, *noise]
        parameters = trainable_parameters(state.network(self._half))
        with torch.no_grad():
            outputs = self._compiled(*self._module_tensors(), *given)
        put_gradients(parameters, outputs[: len(parameters)])
        return dict(zip(self.names, outputs[len(parameters) :], strict=True))

    def _module_tensors(self) -> list[Tensor]:
        """Return every parameter and buffer that the half can read, once and without a graph."""
        modules = self._state.modules()
        tensors = {id(tensor): tensor for module in modules for _, tensor in named_tensors(module)}
        return [tensor.detach() for tensor in tensors.values()]

    def _run(self, *inputs: Tensor) -> list[Tensor | None]:
        """Compute the half on tensors that stand for the modules' own, and return its gradients and results.

        Args:
            *inputs: The modules' tensors in order, the real samples, the condition if there is one, the latents, and
                the random numbers if the tape has recorded any.
        """
        state, given = self._state, list(inputs)
        network = state.network(self._half)
        trainable = trainable_parameters(network)
        with ExitStack() as stack:
            stack.enter_context(self._step.only_trained(self._half, trainable))
            are_leaves = {id(parameter) for parameter in trainable}
            stand_ins: dict[int, Tensor] = {}  # one for each tensor, even if several names or networks share it
            placed = [(module, dict(named_tensors(module))) for module in state.modules()]
            for module, own in placed:
                for name, tensor in own.items():
                    if id(tensor) not in stand_ins:
                        one = given.pop(0)
                        stand_ins[id(tensor)] = one.detach().requires_grad_() if id(tensor) in are_leaves else one
                    own[name] = stand_ins[id(tensor)]
                stack.enter_context(_reparametrize_module(module, own))
            leaves = [stand_ins[id(parameter)] for parameter in trainable]
            real = given.pop(0)
            condition = given.pop(0) if self._has_condition else None
            latent = given.pop(0).detach()
            if self._tape.draws:
                self._tape.play(given)
            make_context = partial(TracedContext, self._tape)
            total, results = self._step.terms(self._half, real, condition, latent, make_context=make_context)
            gradients = gradients_of(total, leaves, self._half)
            for module, own in placed:
                for name, tensor in named_tensors(module):
                    if tensor is not own[name]:
                        raise CannotCompileError(
                            f"{type(module).__name__} puts another tensor in the place of its {name!r} instead of "
                            "changing it in place"
                        )
        self.names = list(results)
        # None for a parameter without influence
        return [*(None if one is None else one.detach() for one in gradients), *results.values()]


@contextmanager
def _unchanged(parts: Sequence[object]) -> Generator[None]:
    """Restore the attributes of parts at the end of a `with` block, and refuse parts that changed one.

    A trace runs their Python code once and a compiled half never does, so a count that a part keeps in an attribute
    would stand still.
    """
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
    """Turn any error of a trace into a `CannotCompileError` of one sentence."""
    try:
        yield
    except CannotCompileError:
        raise
    except Exception as error:  # parts of users run on tensors without values, which may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise CannotCompileError(f"{type(error).__name__}: {reason}") from error


class TracedHalves:
    """Compiled halves, stored by what they depend on; how the compiled modes differentiate a half.

    Args:
        step: The step that the halves belong to.

    Attributes:
        compile_seconds: The time that tracing and compiling has taken so far, in seconds.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> len(TracedHalves(Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)))
        0
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._halves: dict[Any, TracedHalf] = {}
        self.compile_seconds: float = 0.0

    def __len__(self) -> int:
        """Return the number of compiled halves."""
        return len(self._halves)

    def __call__(
        self, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor, fake: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Differentiate one half, as `Differentiate` describes.

        Raises:
            CannotCompileError: for fakes that were already computed, because their graph ends outside the half.
        """
        if fake is not None:
            raise CannotCompileError("a compiled half computes its own fakes, got fakes with a graph of another half")
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
