"""From the one seed that a user gives: an independent seed for each stream of random numbers and for each replica.

Two generators with the *same* seed would repeat each other's numbers: the first weights would equal the first noise.
Every stream therefore has a seed of its own.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Stream = Literal["initial weights", "training noise", "sampling", "evaluation", "data order", "toy data", "dropout"]


def stream_seed(seed: int, stream: Stream, rank: int = 0) -> int:
    """Return the seed of one stream: the first 63 bits of SHA-256 of `"seed/stream"`, or `"seed/stream/rank"`.

    Args:
        seed: The user's seed.
        stream: What the random numbers are for.
        rank: The number of this process among those that train together. A single process is rank 0.

    Example:
        >>> stream_seed(0, "training noise") != stream_seed(0, "data order")
        True
    """
    text = f"{seed}/{stream}/{rank}" if rank else f"{seed}/{stream}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def replica_seeds(seed: int, replicas: int | None) -> list[int]:
    """Return the seed of each replica: replica i behaves like a single model with the seed `seed + i`.

    Args:
        seed: The user's seed.
        replicas: The number of replicas. None, for a single model, gives a list of one seed.

    Example:
        >>> replica_seeds(5, 3), replica_seeds(5, None)
        ([5, 6, 7], [5])
    """
    return [seed + i for i in range(replicas or 1)]


_TURNS = threading.RLock()


@contextmanager
def default_generator_kept(seed: int | None = None) -> Generator[None]:
    """Put torch's default generator of the CPU back into its present state at the end of a `with` block.

    Initial weights and the workers of a `DataLoader` are drawn from this generator, which all threads share. One thread
    at a time is inside such a block.

    Args:
        seed: The seed that the generator has inside the block. None leaves it in its present state.

    Example:
        >>> import torch
        >>> with default_generator_kept(seed=0):
        ...     first = torch.rand(1)
        >>> with default_generator_kept(seed=0):
        ...     torch.equal(first, torch.rand(1))
        True
    """
    import torch  # here, because the names of parts are listed without torch

    with _TURNS, torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
