"""The random generators of batches: how they are seeded, and how their saved states are restored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError
from gankit.seeds import Stream, replica_seeds, stream_seed


def seeded_generators(
    seed: int, stream: Stream, *, replicas: int | None, device: torch.device, rank: int = 0
) -> list[torch.Generator]:
    """Return the generator of one stream of random numbers for each replica; one generator without replicas.

    Example:
        >>> len(seeded_generators(0, "data order", replicas=3, device=torch.device("cpu")))
        3
    """
    return [
        torch.Generator(device).manual_seed(stream_seed(own_seed, stream, rank))
        for own_seed in replica_seeds(seed, replicas)
    ]


def restore_generators(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    """Set the generators to the states that were saved from them.

    Raises:
        BadArgumentsError: If there are more or fewer states than generators.

    Example:
        >>> generator = torch.Generator().manual_seed(3)
        >>> state, first = generator.get_state(), torch.rand(1, generator=generator)
        >>> restore_generators([generator], [state])
        >>> bool(torch.rand(1, generator=generator) == first)
        True
    """
    if len(states) != len(generators):
        raise BadArgumentsError(f"state must hold {len(generators)} generators, one per replica, got {len(states)}")
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state.cpu())
