"""Several processes that train one model: its gradients are averaged over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous  # pyright: ignore[reportUnknownVariableType]

from gankit.errors import BadValueError, DeviceError, DistributedError, GankitError
from gankit.seeds import stream_seed

_OF_THE_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")


class Ranks:
    """The processes that train one model together, as one of them sees it; with one process, nothing is exchanged.

    Everything here is collective, except what is said not to be: every rank must call it, in the same order.

    Args:
        alone: this process alone; otherwise all of `torch.distributed`'s default group, which must be initialised.

    Attributes:
        rank: the number of this process, from 0.
        size: how many processes there are.

    Example:
        >>> ranks = Ranks()
        >>> ranks.rank, ranks.size, ranks.is_first
        (0, 1, True)
    """

    def __init__(self, *, alone: bool = True) -> None:
        self.rank: int = 0 if alone else dist.get_rank()
        self.size: int = 1 if alone else dist.get_world_size()

    @classmethod
    def present(cls) -> Ranks:
        """Return all processes of `torch.distributed` where it has been initialised, else this one alone.

        Not collective.
        """
        return cls(alone=not (dist.is_available() and dist.is_initialized()))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which logs and saves; not collective."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the ranks into each tensor, in place: one exchange for each type of number.

        The ranks' tensors must have the same shapes in the same order.

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
            with _told():
                dist.all_reduce(flat)
            _put_back(flat.div_(self.size), alike)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Put rank 0's values into each tensor, in place."""
        if self.size == 1:
            return
        for alike in _by_kind(tensors):
            flat = torch.cat([one.reshape(-1) for one in alike])
            with _told():
                dist.broadcast(flat, src=0)
            _put_back(flat, alike)

    def any(self, *flags: bool) -> list[bool]:
        """Tell for each flag whether it is set on some rank."""
        if self.size == 1:
            return list(flags)
        both = torch.tensor(flags, dtype=torch.int32)
        with _told():
            dist.all_reduce(both, dist.ReduceOp.MAX)
        return [bool(one) for one in both]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on rank 0, in order, and an empty list on the others."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_first else None
        with _told():
            dist.gather_object(value, gathered)
        return cast("list[T]", gathered or [])

    def first(self, make: Callable[[], T]) -> T:
        """Let rank 0 make something, and return it on every rank; an error of gankit's is raised on all of them.

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
        with _told():
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks, differentiable as often as one likes.

    Each rank's objective counts: the gradient that reaches the sum is summed over the ranks as well. The ranks are
    those of `torch.distributed`, or this process.

    Example:
        >>> SumOverRanks.apply(torch.ones(2))
        tensor([1., 1.])
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Return the sum."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        if dist.is_initialized():
            with _told():
                dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients."""
        return cast(Tensor, SumOverRanks.apply(gradients[0]))


class Launch:
    """What the launcher, `torchrun`, has told this process; without one, a process alone.

    Attributes:
        is_there: whether there is a launcher.
        local_rank: the number of this process on its machine.
        restarts: how often the launcher has started its processes again.
        command: the words that start gankit on as many processes; on several machines, their rendezvous is to be added.

    Raises:
        BadValueError: for a launcher's environment that is not whole.

    Example:
        >>> Launch().is_there
        False
    """

    def __init__(self) -> None:
        missing = [name for name in _OF_THE_LAUNCHER if name not in os.environ]
        self.is_there: bool = "RANK" in os.environ and "WORLD_SIZE" in os.environ
        if self.is_there and missing:
            raise BadValueError(
                f"a launcher must set {', '.join(_OF_THE_LAUNCHER)}, got an environment without {', '.join(missing)}"
            )
        self.local_rank: int = int(os.environ["LOCAL_RANK"]) if self.is_there else 0
        self.restarts: int = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) if self.is_there else 0
        self.command: list[str] = ["gankit"]
        if self.is_there and (size := int(os.environ["WORLD_SIZE"])) > 1:
            local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
            machines = ["--nnodes", str(size // local)] if size > local else []
            self.command = ["torchrun", *machines, "--nproc-per-node", str(local), "-m", "gankit"]
        self._store: Store | None = None

    @contextmanager
    def joined(self, device: str | None = None, *, timeout_seconds: float = 600.0) -> Generator[Ranks]:
        """Join the launcher's other processes; leave them at the end.

        On CUDA, the process takes the device with its local number. Dropout and what else draws from torch's default
        generator draw other numbers on each rank.

        Args:
            device: where training goes; None for CUDA where there is one.
            timeout_seconds: how long an exchange may wait for another rank.

        Raises:
            DeviceError: for more processes on a machine than CUDA devices.
            DistributedError: where the others cannot be reached.
        """
        if not self.is_there:
            yield Ranks()
            return
        if torch.cuda.is_available() and (device is None or device.startswith("cuda")):
            if self.local_rank >= torch.cuda.device_count():
                raise DeviceError(
                    f"each process on a machine must have a CUDA device of its own, got process {self.local_rank} and "
                    f"{torch.cuda.device_count()} devices; start fewer, or train on the CPU"
                )
            torch.cuda.set_device(self.local_rank)
            backend = "cpu:gloo,cuda:nccl"
        else:
            backend = "gloo"
        timeout = timedelta(seconds=timeout_seconds)
        with _told():
            self._store, rank, size = next(rendezvous("env://", timeout=timeout))
            # where processes are started again, the store may still hold the addresses of those before them
            store = PrefixStore(f"start {self.restarts}", self._store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        try:
            ranks = Ranks.present()
            if not ranks.is_first:
                seed = stream_seed(torch.initial_seed(), "dropout", ranks.rank)
                torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
            yield ranks
        finally:
            dist.destroy_process_group()

    def note(self, name: str, value: str) -> str:
        """Write something down for all processes that have joined, those that are started again too.

        Returns:
            What is there now: the first one to write wins. Without a launcher, `value`.
        """
        if self._store is None:
            return value
        with _told():
            return PrefixStore("gankit", self._store).compare_set(name, "", value).decode()


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
def _told() -> Generator[None]:
    """Say in one sentence that the ranks have lost each other."""
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's, and dist.DistError
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise DistributedError(f"every rank must be there for an exchange, got a failed one: {reason}") from error
