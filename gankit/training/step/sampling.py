"""Samples from the present generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from gankit.errors import BadValueError, ShapeError, check_count, check_seed
from gankit.protocols import Random
from gankit.seeds import replica_seeds
from gankit.training.step.modes import evaluating
from gankit.training.step.state import TrainingState


def generate(state: TrainingState, count: int, condition: Tensor | None, random: Random, *, batch_size: int) -> Tensor:
    """Generate samples by the averaged generator, or by the generator if there is no average.

    The network is in eval mode and builds no graph.

    Args:
        state: The state whose generator is used.
        count: The number of samples, per replica.
        condition: The condition of each sample, or None.
        random: The generator that the latents are drawn from, or one per replica.
        batch_size: The number of samples that are generated at a time.

    Returns:
        `(count, *sample_shape)`; with replicas `(R, count, *sample_shape)`.

    Raises:
        BadValueError: for a count or a batch size less than 1.
        ShapeError: for a condition of another length.

    Example:
        >>> from gankit.presets import ring
        >>> state = ring(device="cpu").state
        >>> generate(state, 5, None, state.randomness.sampling, batch_size=2).shape
        torch.Size([5, 2])
    """
    check_count("count", count)
    check_count("batch_size", batch_size)
    batch_dimension = len(state.value_shape)
    network = state.generator if state.average is None else state.average.network
    latents = torch.split(state.draw_latents(count, random), batch_size, batch_dimension)
    inputs: list[tuple[Tensor, ...]] = [(one,) for one in latents]
    if condition is not None:
        if len(condition) != count:
            raise ShapeError(f"condition must have one entry per sample, got {len(condition)} for {count}")
        condition = condition.to(state.device).expand(*state.value_shape, *condition.shape)
        inputs = list(zip(latents, torch.split(condition, batch_size, batch_dimension), strict=True))
    with state.turns, evaluating(network), torch.no_grad():
        return torch.cat([network(*one) for one in inputs], batch_dimension)


def seeds_per_replica(seed: int | Sequence[int], replicas: int | None) -> list[int]:
    """Return one seed per replica, or a single one without replicas.

    Args:
        seed: The seed of the first replica, from which the others count up, or a list of all seeds.
        replicas: The number of replicas, or None.

    Raises:
        BadValueError: for something else than a seed, or for another number of seeds than replicas.

    Example:
        >>> seeds_per_replica(7, 2), seeds_per_replica([3, 1], 2)
        ([7, 8], [3, 1])
    """
    if isinstance(seed, (list, tuple)):
        seeds = list(cast("Sequence[int]", seed))
    else:
        check_seed(cast(int, seed))
        seeds = replica_seeds(cast(int, seed), replicas)
    for one in seeds:
        check_seed(one)
    if len(seeds) != (replicas or 1):
        raise BadValueError(f"seed must be one number, or {replicas or 1}, one per replica, got {seeds}")
    return seeds
