"""What a launcher such as `torchrun` tells its processes, and how they find each other."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous  # pyright: ignore[reportUnknownVariableType]

from gankit.errors import BadValueError, DeviceError, finished_by
from gankit.seeds import stream_seed
from gankit.training.parallel.ranks import Ranks, exchanging

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Launch:
    """What a launcher such as `torchrun` has put into this process's environment.

    Attributes:
        is_there: Whether a launcher has started this process.
        local_rank: The number of this process on its machine, counted from 0.
        restarts: How many times the launcher has restarted its processes.
        command: The words of the command that starts gankit in as many processes. On several machines, the options for
            their rendezvous must be added.

    Raises:
        BadValueError: for an environment that lacks a variable which every launcher sets, or in which one of them is
            not a number in its range.
    """

    def __init__(self) -> None:
        missing = [name for name in _LAUNCHER_VARIABLES if not os.environ.get(name)]
        # other programs set RANK or WORLD_SIZE as well, but not with another of these variables
        named = any(os.environ.get(name) for name in ("RANK", "WORLD_SIZE"))
        self.is_there: bool = named and len(missing) < len(_LAUNCHER_VARIABLES) - 1
        if self.is_there and missing:
            raise BadValueError(
                f"a launcher must set {', '.join(_LAUNCHER_VARIABLES)}, got an environment without {', '.join(missing)}"
            )
        self.local_rank: int = 0
        self.restarts: int = 0
        self.command: list[str] = ["gankit"]
        self._store: Store | None = None
        if not self.is_there:
            return
        size = _number("WORLD_SIZE", 1)
        local = _number("LOCAL_WORLD_SIZE", 1, size + 1, default=size)
        _number("RANK", 0, size)
        _number("MASTER_PORT", 0, 2**16)
        self.local_rank = _number("LOCAL_RANK", 0, local)
        self.restarts = _number("TORCHELASTIC_RESTART_COUNT", 0, default=0)
        if size > 1:
            machines = ["--nnodes", str(size // local)] if size > local else []
            self.command = ["torchrun", *machines, "--nproc-per-node", str(local), "-m", "gankit"]

    @contextmanager
    def joined(self, device: str | None = None, *, timeout_seconds: float = 600.0) -> Generator[Ranks]:
        """Join the launcher's other processes for the duration of a `with` block.

        On CUDA, each process uses the device with its local number. Dropout, and whatever else draws from torch's
        default generator, draws different numbers on each rank.

        Args:
            device: The device of the training. None chooses CUDA if it is available.
            timeout_seconds: How long an exchange may wait for another rank, in seconds.

        Raises:
            DeviceError: for more processes on a machine than it has CUDA devices.
            DistributedError: if the other processes cannot be reached.
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
        with exchanging():
            self._store, rank, size = next(rendezvous("env://", timeout=timeout))
            # after a restart, the store may still hold the addresses of the processes before it
            store = PrefixStore(f"start {self.restarts}", self._store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        with finished_by(_leave):
            ranks = Ranks.present()
            if not ranks.is_first:
                seed = stream_seed(torch.initial_seed(), "dropout", ranks.rank)
                torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
            yield ranks

    def note(self, name: str, value: str) -> str:
        """Store a value for all processes that have joined, including those that are restarted later.

        Returns:
            The value that is stored now: the first process that stores one decides. Without a launcher, `value`.
        """
        if self._store is None:
            return value
        with exchanging():
            return PrefixStore("gankit", self._store).compare_set(name, "", value).decode()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _number(name: str, least: int, end: int = 2**31, *, default: int | None = None) -> int:
    """Return the number in an environment variable, which must be at least `least` and below `end`."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        number = int(text or "")
    except ValueError:
        number = least - 1
    if not least <= number < end:
        raise BadValueError(f"the environment variable {name} must be a number from {least} to {end - 1}, got {text!r}")
    return number
