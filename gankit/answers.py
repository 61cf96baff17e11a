"""`Answer`: what a discriminator with several heads or features returns; `Judgements`: how gankit reads it.

A judgement is one logit. A discriminator may judge each sample as a whole, each position of it, such as the patches of
a picture or the frames of a sound, or do so with several heads:

| returned | meaning |
|---|---|
| `(N,)`, `(N, 1)` | one judgement per sample |
| `(N, 1, *positions)` | one per position, such as a map of patches, `(N, 1, 30, 30)` |
| `Answer(heads=(tensor, ...), features=None)` | several heads, each `(N, *positions)` with positions of its own |

With replicas, every shape has a leading dimension `R`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_leaves, tree_map_only

from gankit.errors import BadArgumentsError, BadValueError, ShapeError

Features: TypeAlias = "Tensor | Sequence[Tensor] | Sequence[Sequence[Tensor]]"
"""Features of one batch: one tensor, those of each layer, or those of each layer of each head; each `(N, ...)`."""

Reduction = Literal["mean", "sum"]
"""How the judgements of one sample become one number."""


@dataclass(eq=False)  # not frozen: Fabric sets the fields of a copy of what a module returns
class Answer:
    """What a discriminator returns that has several heads, or features from the same forward pass.

    It is a pytree, so `DistributedDataParallel`, `torch.compile` and `torch.func` pass it on.

    Args:
        heads: The logits of each head, `(N, *positions)`. Heads may have different positions.
        features: Features from the same forward pass, for feature matching: one tensor, a list of tensors layer by
            layer, or a list of such lists head by head; each tensor `(N, ...)`.

    Example:
        >>> Answer(heads=(torch.zeros(2, 30, 30), torch.zeros(2, 15, 15))).heads[1].shape
        torch.Size([2, 15, 15])
    """

    heads: tuple[Tensor, ...]
    features: Features | None = None


def _flatten(answer: Answer) -> tuple[list[Any], None]:
    # torch counts None among the leaves, which vmap refuses
    return [answer.heads] if answer.features is None else [answer.heads, answer.features], None


def _unflatten(children: Iterable[Any], _: None) -> Answer:
    return Answer(*children)


register_pytree_node(Answer, _flatten, _unflatten, serialized_type_name="gankit.Answer")


class Judgements:
    """What a discriminator has returned for a batch: the answer, and the logits of each head in one dimension.

    The positions of a head are folded into the last dimension, sample by sample: `(N, 1, 30, 30)` becomes `(N * 900,)`,
    and `(R, N, 1, 30, 30)` becomes `(R, N * 900)`. Logits in half precision become float32.

    Args:
        returned: What the discriminator has returned.
        batch_shape: The shape of the batch: `(N,)`, or `(R, N)` with replicas.

    Attributes:
        heads: The folded logits of each head.

    Raises:
        BadArgumentsError: for anything but a floating-point tensor or an `Answer` of such tensors.
        ShapeError: for logits that do not have the batch's shape and then positions.

    Example:
        >>> judgements = Judgements(torch.arange(8.0).view(2, 1, 2, 2), (2,))
        >>> judgements.heads[0].shape, judgements.per_sample()
        (torch.Size([8]), tensor([1.5000, 5.5000]))
    """

    __slots__ = ("_batch_shape", "_returned", "_rows", "heads")

    def __init__(self, returned: object, batch_shape: Sequence[int]) -> None:
        self._batch_shape = tuple(batch_shape)
        if isinstance(returned, Answer):
            self._returned: Answer = returned
            self._check_answer()
        elif isinstance(returned, Tensor) and returned.is_floating_point():
            self._check_tensor(returned)
            self._returned = Answer((returned,))
        else:
            raise BadArgumentsError(
                "the discriminator must return one tensor of floating-point logits, or an Answer(heads=(tensor, ...)) "
                f"of several, got {_kind_of(returned)}"
            )
        batch = len(self._batch_shape)
        self._rows: tuple[int, int] = (0, self._batch_shape[-1])
        # no operation where there is nothing to fold
        self.heads: tuple[Tensor, ...] = tuple(
            [widened(one if one.ndim == batch else one.flatten(batch - 1)) for one in self._returned.heads]
        )

    @property
    def answer(self) -> Answer:
        """The answer as it was returned. A tensor that was returned is its only head."""
        start, length = self._rows
        axis = len(self._batch_shape) - 1
        if length == self._returned.heads[0].shape[axis]:
            return self._returned
        for one in tree_leaves(self._returned.features):
            if isinstance(one, Tensor) and one.shape[: axis + 1] != self._returned.heads[0].shape[: axis + 1]:
                raise ShapeError(
                    "features must have the shape (N, ...) of the batch, so that real and fake samples can be told "
                    f"apart, got {tuple(one.shape)}"
                )
        return tree_map_only(Tensor, lambda one: one.narrow(axis, start, length), self._returned)

    def per_sample(self, weights: Sequence[float] | None = None, reduction: Reduction = "mean") -> Tensor:
        """Return one number per sample, `(..., N)`: the mean or the sum of its judgements, added over the heads.

        Args:
            weights: The weight of each head. None weights each by 1.
            reduction: `mean` or `sum` over the positions of a head.
        """
        return per_sample(self.heads, self._batch_shape, weights, reduction)

    def split(self, count: int) -> tuple[Judgements, Judgements]:
        """Return the judgements of the first `count` samples and of the others.

        Example:
            >>> first, second = Judgements(torch.arange(5.0), (5,)).split(2)
            >>> first.heads[0], second.heads[0]
            (tensor([0., 1.]), tensor([2., 3., 4.]))
        """
        *replicas, both = self._batch_shape
        return self._part((*replicas, count), 0), self._part((*replicas, both - count), count)

    def _part(self, batch_shape: tuple[int, ...], start: int) -> Judgements:
        part = object.__new__(Judgements)
        part._batch_shape, part._returned, part._rows = batch_shape, self._returned, (start, batch_shape[-1])
        # the judgements of one sample lie together in a folded head
        each = [head.shape[-1] // self._batch_shape[-1] for head in self.heads]
        part.heads = tuple(
            [
                head[..., start * positions : (start + batch_shape[-1]) * positions]
                for head, positions in zip(self.heads, each, strict=True)
            ]
        )
        return part

    def _check_answer(self) -> None:
        heads = cast("tuple[object, ...]", self._returned.heads)
        if not isinstance(heads, (tuple, list)) or not heads:
            raise BadArgumentsError(
                f"Answer's heads must be one or more tensors in a tuple, got {_kind_of(heads)}"
                + (" without any" if isinstance(heads, (tuple, list)) else "")
            )
        for index, head in enumerate(heads):
            if not isinstance(head, Tensor) or not head.is_floating_point():
                raise BadArgumentsError(
                    f"Answer's heads must be tensors of floating-point logits, got {_kind_of(head)} as head {index}"
                )
            if head.shape[: len(self._batch_shape)] != self._batch_shape or not head.numel():
                raise ShapeError(
                    f"head {index} of the discriminator's Answer must have the shape "
                    f"({', '.join(map(str, self._batch_shape))}, *positions), got {tuple(head.shape)}"
                )

    def _check_tensor(self, logits: Tensor) -> None:
        batch = len(self._batch_shape)
        shape = tuple(logits.shape)
        if shape == self._batch_shape or (shape[: batch + 1] == (*self._batch_shape, 1) and logits.numel()):
            return
        raise wrong_logits(shape, self._batch_shape)


def per_sample(
    heads: Sequence[Tensor],
    batch_shape: Sequence[int],
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return one number per sample, `(..., N)`, from values of judgements, with one folded tensor per head.

    Args:
        heads: The values of each head, `(..., N * P)` with P positions.
        batch_shape: The shape of the batch, `(N,)` or `(R, N)`.
        weights: The weight of each head. None weights each by 1.
        reduction: `mean` or `sum` over the positions of a head.

    Raises:
        BadValueError: for weights that are not one for each head, or an unknown reduction.

    Example:
        >>> per_sample([torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([1.0, 2.0])], (2,), weights=[1.0, 10.0])
        tensor([12., 26.])
    """
    if reduction not in ("mean", "sum"):
        raise BadValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    check_head_weights(weights, len(heads))
    numbers: list[Tensor] = []
    for index, head in enumerate(heads):
        if head.shape != tuple(batch_shape):
            by_position = head.view(*batch_shape, -1)
            head = by_position.mean(-1) if reduction == "mean" else by_position.sum(-1)
        numbers.append(head if weights is None or weights[index] == 1 else weights[index] * head)
    first, *others = numbers
    return sum(others, first)


def check_head_weights(weights: Sequence[float] | None, heads: int) -> None:
    """Raise `BadValueError` unless there is one weight for each head.

    Example:
        >>> check_head_weights([1.0, 2.0], 3)
        Traceback (most recent call last):
        gankit.errors.BadValueError: head_weights must be one for each of the discriminator's 3 heads, got 2
    """
    if weights is not None and len(weights) != heads:
        of = f"each of the discriminator's {heads} heads" if heads > 1 else "the discriminator's only head"
        raise BadValueError(f"head_weights must be one for {of}, got {len(weights)}")


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is in half precision, and `x` itself otherwise.

    Example:
        >>> widened(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def wrong_logits(shape: Sequence[int], batch_shape: Sequence[int]) -> ShapeError:
    """Return the error for logits that are neither one per sample nor one per position, with what makes them so.

    Example:
        >>> raise wrong_logits((2, 10), (2,))
        Traceback (most recent call last):
        gankit.errors.ShapeError: the discriminator must return logits of shape (2,), (2, 1) or (2, 1, *positions) for \
2 samples, got (2, 10); return Answer(heads=(logits,)) if each number is a judgement of its own
    """
    shape, batch = tuple(shape), tuple(batch_shape)
    numbers = ", ".join(map(str, batch))
    of = f"{batch[0]} samples" if len(batch) == 1 else f"{batch[0]} replicas with {batch[1]} samples each"
    way = "return one number per sample, such as the mean over its positions"
    if len(shape) > len(batch) and shape[: len(batch)] == batch:
        way = "return Answer(heads=(logits,)) if each number is a judgement of its own"
    return ShapeError(
        f"the discriminator must return logits of shape ({numbers}{',' if len(batch) == 1 else ''}), ({numbers}, 1) or "
        f"({numbers}, 1, *positions) for {of}, got {shape}; {way}"
    )


def _kind_of(one: object) -> str:
    return str(one.dtype) if isinstance(one, Tensor) else type(one).__name__
