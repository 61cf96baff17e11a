"""One seed in, an independent seed for every stream of random numbers out.

Two generators with the *same* seed would repeat each other's numbers: the first weights would equal the
first noise. So every stream gets a seed of its own, derived from the one the user gives.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Stream = Literal["initial weights", "training noise", "sampling", "data order", "toy data", "dropout"]


def stream_seed(seed: int, stream: Stream, rank: int = 0) -> int:
    """Return the seed of one stream: the first 63 bits of SHA-256 of `"seed/stream"`, or `"seed/stream/rank"`.

    Args:
        seed: the user's seed.
        stream: what the random numbers are for.
        rank: of which of the processes that train together; 0 is also a process alone.

    Example:
        >>> stream_seed(0, "training noise") != stream_seed(0, "data order")
        True
    """
    text = f"{seed}/{stream}/{rank}" if rank else f"{seed}/{stream}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
