"""Running a step without a trace: everything that it changes is put back, afterwards or if it fails."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from gankit.errors import GankitError
from gankit.training.step.state import TrainingState


@contextmanager
def undone(state: TrainingState, generators: Iterable[torch.Generator] = ()) -> Generator[None]:
    """Put the state back at the end of a `with` block, whatever happens in it.

    Weights, buffers, moments, averages and random generators return to their values, in the same tensors, so that the
    bits of a training do not depend on when a step was compiled, captured or profiled.

    Args:
        state: The state.
        generators: Further random generators that a step draws from, such as those of its batches.

    Example:
        >>> from gankit.presets import ring
        >>> from gankit.training.step.step import Step
        >>> trainer = ring(device="cpu")
        >>> step = Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)
        >>> before = trainer.generator.network[-1].weight.detach().clone()
        >>> with undone(trainer.state):
        ...     _ = step([(torch.randn(4, 2), None)])
        >>> torch.equal(trainer.generator.network[-1].weight, before)
        True
    """
    put_back = _recorded(state, generators)
    try:
        yield
    finally:
        put_back()


@contextmanager
def undone_if_refused(state: TrainingState) -> Generator[None]:
    """Put the state back, as `undone` does, but only if a `GankitError` ends the `with` block.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> with undone_if_refused(trainer.state):
        ...     _ = trainer.generator.zero_grad()
    """
    put_back = _recorded(state)
    try:
        yield
    except GankitError:
        put_back()
        raise


def _recorded(state: TrainingState, generators: Iterable[torch.Generator] = ()) -> Callable[[], None]:
    """Return a function that puts the state back to what it is now."""
    tensors = state.tensors()
    values = [tensor.detach().clone() for tensor in tensors]
    drawn_from = [*state.randomness.noises, *generators]
    randoms = [generator.get_state() for generator in drawn_from]
    default = state.randomness.default_state()
    # the parameters are keys, and must stay the same objects
    numbers = [{p: copy.deepcopy(one) for p, one in _without_tensors(each).items()} for each in state.optimizers]

    def put_back() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                if not tensor.is_inference():  # which nothing can have changed
                    tensor.copy_(value)
        for generator, own in zip(drawn_from, randoms, strict=True):
            generator.set_state(own)
        state.randomness.set_default_state(default)
        for optimizer, plain in zip(state.optimizers, numbers, strict=True):
            for parameter in optimizer.state.keys() - plain.keys():  # an entry that was created since
                del optimizer.state[parameter]
            for parameter, own in plain.items():
                optimizer.state[parameter].update(own)

    return put_back


def _without_tensors(optimizer: Optimizer) -> dict[Any, dict[str, Any]]:
    """Return an optimizer's state without its tensors."""
    states = cast("dict[Any, dict[str, Any]]", optimizer.state)
    return {p: {k: v for k, v in state.items() if not isinstance(v, Tensor)} for p, state in states.items()}
