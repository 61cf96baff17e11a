"""Samples from the present generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from gankit.devices import memory_bytes
from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_count, check_seed
from gankit.network_modes import evaluating
from gankit.protocols import Random
from gankit.seeds import replica_seeds
from gankit.training.step.checks import is_about_arguments, is_about_single_values, lacks_condition
from gankit.training.step.state import TrainingState

LATENTS_AT_A_TIME = 64
"""The number of latents that are drawn at a time, so that the first ones do not depend on how many there are."""


def generate(
    state: TrainingState,
    count: int,
    condition: Tensor | None,
    random: Random,
    *,
    batch_size: int,
    averaged: bool = True,
) -> Tensor:
    """Generate samples by the averaged generator, or by the generator if there is no average.

    The network is in eval mode and builds no graph. Noise that it draws from torch's default generator follows from
    `random`, after the latents; that generator is afterwards where it was.

    Args:
        state: The state whose generator is used.
        count: The number of samples, per replica.
        condition: The condition of each sample, or None.
        random: The generator that the latents are drawn from, or one per replica.
        batch_size: The number of samples that are generated at a time, at most.
        averaged: Whether the averaged generator is used if there is one.

    Returns:
        `(count, *sample_shape)`; with replicas `(R, count, *sample_shape)`.

    Raises:
        BadValueError: for a count or a batch size less than 1, or less than 2 if the network normalises by the
            statistics of a batch.
        BadArgumentsError: for a condition that is no tensor, or that is missing.
        ShapeError: for a condition of another length.

    Example:
        >>> from gankit.presets import ring
        >>> state = ring(device="cpu").state
        >>> generate(state, 5, None, state.randomness.sampling, batch_size=2).shape
        torch.Size([5, 2])
    """
    check_count("count", count)
    check_count("batch_size", batch_size)
    latents = first_latents(state, count, random)
    return generate_from(state, latents, condition, random, batch_size=batch_size, averaged=averaged)


def first_latents(state: TrainingState, count: int, random: Random) -> Tensor:
    """Draw the latents of samples, of which the first ones are the same for every count.

    How the numbers of one call are drawn depends on the size of the tensor. Latents are therefore drawn in blocks of
    equal size, and the last block is cut.

    Args:
        state: The state whose latent is used.
        count: The number of latents, per replica.
        random: The generator that they are drawn from, or one per replica.

    Returns:
        `(count, *latent_shape)`; with replicas `(R, count, *latent_shape)`.

    Raises:
        BadValueError: for more latents than fit into the memory.

    Example:
        >>> from gankit.presets import ring
        >>> state = ring(device="cpu").state
        >>> few, many = (first_latents(state, n, torch.Generator().manual_seed(3)) for n in (5, 100))
        >>> torch.equal(few, many[:5])
        True
    """
    dimension = len(state.value_shape)
    blocks = [state.draw_latents(LATENTS_AT_A_TIME, random)]
    check_memory("count", count, blocks[0].nbytes / LATENTS_AT_A_TIME, state.device)
    blocks += [state.draw_latents(LATENTS_AT_A_TIME, random) for _ in range((count - 1) // LATENTS_AT_A_TIME)]
    return torch.cat(blocks, dimension).narrow(dimension, 0, count)


def check_memory(name: str, count: int, bytes_each: float, device: torch.device) -> None:
    """Raise `BadValueError` if so many things of this size are more than the memory of a device can hold.

    Example:
        >>> check_memory("count", 10**12, 1000, torch.device("cpu"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gankit.errors.BadValueError: count must be at most ..., for which the memory of cpu suffices, got 1000000000000
    """
    memory = memory_bytes(device)
    if memory is not None and count * bytes_each > memory:
        raise BadValueError(
            f"{name} must be at most {int(memory / bytes_each)}, for which the memory of {device} suffices, got {count}"
        )


def generate_from(
    state: TrainingState,
    latents: Tensor,
    condition: Tensor | None,
    random: Random,
    *,
    batch_size: int,
    averaged: bool = True,
) -> Tensor:
    """Generate samples from given latents, as `generate` does from random ones.

    Args:
        state: The state whose generator is used.
        latents: `(count, *latent_shape)`; with replicas `(R, count, *latent_shape)`.
        condition: The condition of each sample, or None.
        random: The generator that noise in the network follows from, or one per replica.
        batch_size: The number of samples that are generated at a time.
        averaged: Whether the averaged generator is used if there is one.

    Example:
        >>> from gankit.presets import ring
        >>> state = ring(device="cpu").state
        >>> generate_from(state, torch.zeros(5, 258), None, state.randomness.sampling, batch_size=2).shape
        torch.Size([5, 2])
    """
    batch_dimension = len(state.value_shape)
    count = latents.shape[batch_dimension]
    network = state.average.network if averaged and state.average is not None else state.generator
    # passes of equal size, because a last one of a single sample does not suit a BatchNorm without running statistics
    passes = -(-count // batch_size)
    split = torch.tensor_split(latents, passes, batch_dimension)
    inputs: list[tuple[Tensor, ...]] = [(one,) for one in split]
    if condition is not None:
        if not isinstance(condition, Tensor) or not condition.ndim:
            raise BadArgumentsError(
                "condition must be a tensor with one entry per sample, got "
                f"{type(condition).__name__}; a seed is given as seed="
            )
        if len(condition) != count:
            raise ShapeError(f"condition must have one entry per sample, got {len(condition)} for {count}")
        classes = getattr(network, "num_classes", None)
        if isinstance(classes, int) and not condition.is_floating_point() and condition.numel():
            low, high = int(condition.min()), int(condition.max())
            if low < 0 or high >= classes:
                raise BadValueError(
                    f"condition must be from 0 to {classes - 1} for num_classes={classes}, got {low} to {high}"
                )
        condition = condition.to(state.device).expand(*state.value_shape, *condition.shape)
        inputs = list(zip(split, torch.tensor_split(condition, passes, batch_dimension), strict=True))
    with state.turns, evaluating(network), torch.no_grad(), state.randomness.drawn_from(random):
        try:
            first = network(*inputs[0])
            check_memory("count", count, first.nbytes / first.shape[batch_dimension], state.device)
            return torch.cat([first, *(network(*one) for one in inputs[1:])], batch_dimension)
        except (TypeError, AttributeError) as error:
            label = f"the generator {type(network).__name__}"
            if not isinstance(error, BadArgumentsError) and condition is None and lacks_condition(error):
                raise BadArgumentsError(f"sample needs a condition for {label} ({error})") from error
            if not isinstance(error, BadArgumentsError) and condition is not None and is_about_arguments(error):
                raise BadArgumentsError(
                    f"condition is of shape {tuple(condition.shape[batch_dimension:])}, and {label} takes none"
                ) from error
            raise
        except Exception as error:
            if not is_about_single_values(error):
                raise
            raise BadValueError(
                "count and batch_size must give passes of 2 samples or more to a generator with BatchNorm without "
                f"running statistics, which takes those of the pass, got {count} and {batch_size}"
            ) from error


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
