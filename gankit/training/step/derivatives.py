"""The gradient of one half's objective, or one sentence on why there is none."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import GradientError
from gankit.protocols import Half

_REENTRANT = (
    "torch.utils.checkpoint with use_reentrant=True works only with .backward(), and a step would leave out the "
    "gradients inside it; use use_reentrant=False"
)
_TWICE = "a penalty differentiates twice, which {what}; {instead}"
_MATH = (
    "run the training inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or leave out the penalties that "
    "differentiate with respect to samples or latents"
)
_COMPILED = _TWICE.format(
    what="a network made by torch.compile cannot be",
    instead="give the trainer the network itself, and execution='compile' to have whole halves compiled",
)
_OTHER = "leave out the penalties that differentiate with respect to samples or latents, or use another layer"
# by what torch says, in the order in which they are tried
_SENTENCES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"use_reentrant|Checkpointing is not compatible", _REENTRANT),
        (r"derivative for (\S*attention\S*) is not impl", _TWICE.format(what="{} cannot be", instead=_MATH)),
        (r"derivative for (\S+) is not impl", _TWICE.format(what="{} cannot be", instead=_OTHER)),
        (r"donated buffers|aot_autograd|torch\.compile.*double backward", _COMPILED),
        (
            r"(differentiate twice a function.*@once_differentiable|[Dd]ouble backwards? is not supported.*)",
            _TWICE.format(what="a layer refuses ({})", instead=_OTHER),
        ),
        (
            r"leaf Variable that requires grad is being used in an in-place operation",
            "a penalty differentiates with respect to samples, which the discriminator changes in place; let its first "
            "layers return new tensors, without inplace=True",
        ),
        (
            r"modified by an inplace operation",
            "a network changes a tensor in place that its gradient needs; let its layers return new tensors, without "
            "inplace=True",
        ),
        (
            r"[Ii]nference tensor",
            "the networks and the batches must be made outside torch.inference_mode(), got tensors that were made "
            "inside it, which have no gradient",
        ),
        (
            r"not have been used in the graph|does not require grad",
            "a term differentiates what does not depend on the samples or latents; detach(), no_grad() or argmax in "
            "a network's forward cuts gradients off",
        ),
    )
]


def check_gradients_enabled() -> None:
    """Raise `GradientError` where torch records no gradients.

    Example:
        >>> with torch.no_grad():
        ...     check_gradients_enabled()
        Traceback (most recent call last):
        gankit.errors.GradientError: training needs gradients, got a call inside torch.no_grad() or \
torch.inference_mode(); call it outside
    """
    if not torch.is_grad_enabled():
        raise GradientError(
            "training needs gradients, got a call inside torch.no_grad() or torch.inference_mode(); call it outside"
        )


@contextmanager
def explained(half: Half) -> Generator[None]:
    """Turn torch's errors about gradients that do not exist into a `GradientError` of one sentence.

    Example:
        >>> with explained("discriminator"):
        ...     raise RuntimeError("derivative for aten::x is not implemented")
        Traceback (most recent call last):
        gankit.errors.GradientError: in the discriminator's half, a penalty differentiates twice, which aten::x \
cannot be; leave out the penalties that differentiate with respect to samples or latents, or use another layer
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, GradientError):
            raise
        for pattern, sentence in _SENTENCES:
            if found := pattern.search(str(error)):
                raise GradientError(f"in the {half}'s half, {sentence.format(*found.groups())}") from error
        raise


def gradients_of(
    total: Tensor, parameters: Sequence[Tensor], half: Half, *, is_examined: bool = True
) -> Sequence[Tensor | None]:
    """Return the gradient of an objective for each parameter, or None for a parameter without influence.

    Args:
        total: The objective, 0-d.
        parameters: The parameters that require a gradient. None of them takes no backward pass.
        half: Whose objective it is, for messages.
        is_examined: Whether the graph of the objective is known to contain nothing that leaves gradients out.

    Raises:
        GradientError: if no parameter gets a gradient, or some silently would not.

    Example:
        >>> weight, other = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> gradients_of((weight * 3).sum(), [weight, other], "generator")
        (tensor([3., 3.]), None)
    """
    if not parameters:
        return ()
    if not is_examined:
        _examine(total, half)
    gradients: tuple[Tensor | None, ...] = ()
    if total.requires_grad:
        # not .backward(), whose accumulation nodes stay bound to the CUDA stream of their first use
        gradients = cast("tuple[Tensor | None, ...]", torch.autograd.grad(total, parameters, allow_unused=True))
    if all(one is None for one in gradients):
        raise GradientError(
            f"no gradient reaches the {half}, so that none of its parameters would ever change: detach(), no_grad() or "
            "argmax in a network's forward, or a loss that does not depend on it, cuts gradients off; to train the "
            "other network alone, freeze this one with requires_grad_(False)"
        )
    return gradients


def _examine(total: Tensor, half: Half) -> None:
    """Raise `GradientError` for nodes that give gradients to `.backward()` alone, or that refuse to give them to it."""
    for node in _nodes(total):
        name = node.name()
        if name == "CheckpointFunctionBackward":
            raise GradientError(f"in the {half}'s half, {_REENTRANT}")
        if name == "torch::autograd::Error":  # torch.autograd.grad would go past it without a word
            what = _TWICE.format(what="a layer marked with @once_differentiable cannot be", instead=_OTHER)
            raise GradientError(f"in the {half}'s half, {what}")


def _nodes(total: Tensor) -> Iterator[Any]:
    """Return each node of the graph of a tensor once."""
    waiting: list[Any] = [total.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [following for following, _ in node.next_functions]
