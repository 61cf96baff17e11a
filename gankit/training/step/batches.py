"""The batches that a step takes: checked, and placed on the device in the type of the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

from torch import Tensor

from gankit.errors import DataError, ShapeError
from gankit.protocols import Batch, HasShape
from gankit.training.parallel.replicas import Stacked
from gankit.training.step.checks import check_shapes
from gankit.training.step.state import TrainingState

CheckedBatch: TypeAlias = "tuple[Tensor, Tensor | None]"
"""Real samples and their condition, on the device, of the right type and shape."""


class BatchCheck:
    """Turns a batch into what a step takes, or raises an error that says what is wrong with it.

    The shape of the samples comes from a run of the networks on fake tensors. Where the networks need a condition, that
    run waits for the first batch, which has one.

    Args:
        state: The state whose networks the batches are for.

    Raises:
        ShapeError: for networks that do not fit the latent or each other.

    Example:
        >>> import torch
        >>> from gankit.presets import ring
        >>> check = BatchCheck(ring(device="cpu").state)
        >>> check(torch.zeros(4, 2))[0].shape
        torch.Size([4, 2])
        >>> check(torch.zeros(4, 3))
        Traceback (most recent call last):
        gankit.errors.ShapeError: a batch must have samples of the generator's shape (2,), got (3,)
    """

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._has_seen_a_batch = False
        self._takes_single_samples = False
        self._sample_shape = self._find_sample_shape()

    def __call__(self, batch: Batch) -> CheckedBatch:
        """Return a batch that was checked and placed.

        Raises:
            ShapeError: for a batch of another shape than the generator's samples.
            DataError: for a batch that is empty, not floating point, or not `real` or `(real, condition)`.
        """
        real, condition = _split(batch)
        if not real.is_floating_point():
            raise DataError(f"a batch must be floating point, got {real.dtype}; scale it to the samples' range")
        replicas, leading = self._state.replicas, len(self._state.value_shape)
        if real.shape[:leading] != self._state.value_shape or real.ndim <= leading:
            raise ShapeError(
                f"a batch for {replicas} replicas must be ({replicas}, N, *sample_shape), got {tuple(real.shape)}"
            )
        count = real.shape[leading]
        if not count:
            raise DataError("a batch must have samples, got 0; a DataLoader leaves small ones out with drop_last=True")
        real, condition = self.place((real, condition))
        if condition is not None and condition.shape[: leading + 1] != real.shape[: leading + 1]:
            raise ShapeError(
                f"a batch's condition must have one entry per sample, got {len(condition)} for {len(real)}"
            )
        is_news = not self._has_seen_a_batch and (condition is not None or self._sample_shape is None)
        # only a run shows whether a BatchNorm gets several values from one sample, as it does over positions
        is_single = count == 1 and not self._takes_single_samples
        if is_news or is_single:
            self._sample_shape = self._find_sample_shape(condition, count) or self._sample_shape
            self._takes_single_samples |= is_single
        self._has_seen_a_batch = True
        if self._sample_shape is not None and real.shape[leading + 1 :] != self._sample_shape:
            raise ShapeError(
                f"a batch must have samples of the generator's shape {self._sample_shape}, got "
                f"{tuple(real.shape[leading + 1 :])}"
            )
        return real, condition

    def place(self, batch: Batch) -> CheckedBatch:
        """Return a batch on the device, in the type of the networks, without checks that would read it."""
        (real, condition), device = _split(batch), self._state.device
        real = real.to(device, self._state.dtype, non_blocking=True)
        return real, None if condition is None else condition.to(device, non_blocking=True)

    def _find_sample_shape(self, condition: Tensor | None = None, count: int | None = None) -> tuple[int, ...] | None:
        state = self._state
        latent_shape = state.latent.shape if isinstance(state.latent, HasShape) else None
        if latent_shape is None:
            return None
        generator, discriminator = state.generator, state.discriminator
        if isinstance(generator, Stacked) and isinstance(discriminator, Stacked):
            generator, discriminator = generator.replica(0), discriminator.replica(0)
            condition = None if condition is None else condition[0]
        with state.turns:  # a run on fake tensors exchanges the weights
            return check_shapes(
                generator, discriminator, latent_shape, condition, state.device, state.dtype, count=count
            )


def _split(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return the real samples and the condition of a batch."""
    if isinstance(batch, Tensor):
        return batch, None
    given: object = batch
    if isinstance(given, Mapping):
        entries = list(cast("Mapping[str, object]", given))
        raise DataError(
            f"a batch must be `real` or `(real, condition)`, got a dictionary with {entries}; "
            'Preset.batches(..., keys=("image", "label")) takes the entries of these names'
        )
    if isinstance(given, (list, tuple)) and len(batch) in (1, 2) and isinstance(batch[0], Tensor):
        real, condition = batch[0], batch[1] if len(batch) == 2 else None
        if condition is None or isinstance(cast(object, condition), Tensor):
            return real, condition
    kinds = f" of {', '.join(type(one).__name__ for one in batch)}" if isinstance(given, (list, tuple)) else ""
    raise DataError(f"a batch must be `real` or `(real, condition)`, got {type(batch).__name__}{kinds}")
