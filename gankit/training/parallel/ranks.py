"""The processes that train one model together, and what they exchange."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from gankit.errors import BadValueError, DataError, DistributedError, GankitError

T = TypeVar("T")


class Ranks:
    """The processes that train one model together, as one of them sees it. A single process exchanges nothing.

    Every method is collective unless its description says otherwise: all ranks must call it, in the same order.

    Args:
        alone: Whether this process trains alone. Otherwise the ranks are those of the default group of
            `torch.distributed`, which must have been initialised.

    Attributes:
        rank: The number of this process, counted from 0.
        size: The number of processes.

    Example:
        >>> ranks = Ranks()
        >>> ranks.rank, ranks.size, ranks.is_first
        (0, 1, True)
    """

    def __init__(self, *, alone: bool = True) -> None:
        self.rank: int = 0 if alone else dist.get_rank()
        self.size: int = 1 if alone else dist.get_world_size()
        self._were_found = False
        if not alone:
            let_group_end()

    @classmethod
    def present(cls) -> Ranks:
        """Return all processes of `torch.distributed` if it has been initialised, and otherwise this process alone.

        This is not collective.
        """
        ranks = cls(alone=not (dist.is_available() and dist.is_initialized()))
        ranks._were_found = True
        return ranks

    def check_present(self) -> None:
        """Raise `DistributedError` if `present` has returned these processes and would now return others.

        This is not collective.
        """
        is_joined = dist.is_available() and dist.is_initialized()
        size = dist.get_world_size() if is_joined else 1
        if self._were_found and size != self.size:
            raise DistributedError(
                f"a trainer must be constructed after torch.distributed.init_process_group and used before "
                f"destroy_process_group, got one constructed with {self.size} processes and used with {size}; "
                "ranks=Ranks() is for a process that trains alone"
            )

    def check_shard(self, batches: object) -> None:
        """Raise `DataError` for batches that say by an attribute `shard` or `rank` that they are those of another rank.

        This is not collective.
        """
        shard: object = getattr(batches, "shard", None)
        if self.size > 1 and shard is not None and shard != (self.rank, self.size):
            raise DataError(
                f"batches must be the part of their own rank, {(self.rank, self.size)}, got the shard {shard}; make "
                "them after init_process_group, or give make_batches the shard"
            )
        rank: object = getattr(batches, "rank", self.rank)
        if self.size > 1 and rank != self.rank:
            raise DataError(
                f"batches must be those of their own rank, {self.rank}, got those of rank {rank}; make them after "
                "init_process_group, or give make_batches the shard"
            )

    def check_agreement(self, facts: Mapping[str, object]) -> None:
        """Raise `BadValueError` on every rank unless all ranks pass the same facts.

        The message names the first fact that differs, in the order of rank 0.

        Example:
            >>> Ranks().check_agreement({"seed": 3})
        """
        if self.size == 1:
            return
        of_ranks: list[Any] = [None] * self.size
        with exchanging():
            dist.all_gather_object(of_ranks, {name: str(fact) for name, fact in facts.items()})
        first: dict[str, str] = of_ranks[0]
        for rank, own in enumerate(of_ranks[1:], 1):
            for name in {**first, **own}:
                if first.get(name) != own.get(name):
                    raise BadValueError(
                        f"every rank must be given the same training, got {name} {first.get(name, 'missing')} on rank "
                        f"0 and {own.get(name, 'missing')} on rank {rank}"
                    )

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which logs and saves. This is not collective."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in place, with one exchange per dtype and device.

        All ranks must pass tensors of the same shapes in the same order.

        Example:
            >>> gradient = torch.ones(3)
            >>> Ranks().average([gradient])
            >>> gradient
            tensor([1., 1., 1.])
        """
        if self.size == 1:
            return
        for alike in _by_kind(tensors):
            flat = torch.cat([one.reshape(-1) for one in alike])
            with exchanging():
                dist.all_reduce(flat)
            _put_back(flat.div_(self.size), alike)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0, in place."""
        if self.size == 1:
            return
        for alike in _by_kind(tensors):
            flat = torch.cat([one.reshape(-1) for one in alike])
            with exchanging():
                dist.broadcast(flat, src=0)
            _put_back(flat, alike)

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether any rank has set it."""
        if self.size == 1:
            return list(flags)
        numbers = torch.tensor(flags, dtype=torch.int32)
        with exchanging():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return [bool(number) for number in numbers]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in order, on rank 0, and an empty list on the others."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_first else None
        with exchanging():
            dist.gather_object(value, gathered)
        return cast("list[T]", gathered or [])

    def first(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 and return its result on every rank. A `GankitError` is raised on all of them.

        Example:
            >>> Ranks().first(lambda: 3)
            3
        """
        if self.size == 1:
            return make()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = make()
            except GankitError as error:
                outcome[1] = error
        with exchanging():
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


@cache
def let_group_end() -> None:
    """Let `torch.distributed.destroy_process_group` end the default group together with its threads.

    The functions of `torch.distributed.nn.functional` keep the group that there is when the module is imported as the
    default of an argument. torch imports the module when an optimizer is made. Threads of a group that outlives
    `destroy_process_group` abort the process if they need the interpreter while it ends. A default of None stands for
    the default group too.
    """
    from torch.distributed.nn import functional

    for function in vars(functional).values():
        defaults: tuple[Any, ...] | None = getattr(function, "__defaults__", None)
        if defaults:
            function.__defaults__ = tuple([None if isinstance(one, dist.ProcessGroup) else one for one in defaults])


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks, which can be differentiated any number of times.

    The objectives of all ranks are added, so the gradient that reaches the sum is summed over the ranks as well. The
    ranks are those of `torch.distributed` if it has been initialised, and otherwise this process alone.

    Example:
        >>> SumOverRanks.apply(torch.ones(2))
        tensor([1., 1.])
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Return the sum."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        if dist.is_initialized():
            with exchanging():
                dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients."""
        return cast(Tensor, SumOverRanks.apply(gradients[0]))


def _by_kind(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for one in tensors:
        kinds.setdefault((one.dtype, one.device), []).append(one)
    return list(kinds.values())


def _put_back(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [one.numel() for one in tensors])
    for one, part in zip(tensors, parts, strict=True):
        one.copy_(part.view(one.shape))


@contextmanager
def exchanging() -> Generator[None]:
    """Turn the error of an exchange that failed into one sentence.

    Example:
        >>> with exchanging():
        ...     raise RuntimeError("Connection closed by peer. More follows")
        Traceback (most recent call last):
        gankit.errors.DistributedError: every rank must take part in an exchange, got one that failed: Connection \
closed by peer
    """
    try:
        yield
    except RuntimeError as error:  # which gloo, NCCL and `dist.DistError` have in common
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise DistributedError(f"every rank must take part in an exchange, got one that failed: {reason}") from error
