"""Weights and inputs that a formula gives, so that another implementation can be given the same."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

Shape = tuple[int, ...]


def values(key: str, shape: Shape) -> Tensor:
    """Numbers in [-0.5, 0.5) that depend on a name: `((7919 i + 211 (crc32(key) % 1009)) % 1009) / 1009 - 0.5`."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((i * 7919 + zlib.crc32(key.encode()) % 1009 * 211) % 1009) / 1009 - 0.5).view(shape)


def filled(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The state of a network, from the names and shapes of its tensors.

    Weights have a variance of 1 over their inputs; scales, lengths and variances lie around 1; biases around 0. The
    vectors of spectral normalisation are singular vectors of their weights.
    """
    state: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        name = key.rpartition(".")[2]
        one = values(key, shape)
        if name == "num_batches_tracked":
            one = torch.zeros((), dtype=torch.long)
        elif name in ("running_var", "weight_g") or (name == "weight" and len(shape) < 2):
            one = 1 + one
        elif name in ("weight", "weight_orig", "weight_v"):
            one = one * (12 / one[0].numel()) ** 0.5
        state[key] = one
    for key in shapes:
        if key.endswith("weight_u"):
            stem = key.removesuffix("u")
            left, _, right = torch.linalg.svd(state[f"{stem}orig"].flatten(1), full_matrices=False)
            state[key], state[f"{stem}v"] = left[:, 0].clone(), right[0].clone()
    return state


def convolution(
    name: str, after: int, before: int, *kernel: int, norm: str = "none", bias: bool = True
) -> dict[str, Shape]:
    """The names and shapes of a published convolution's tensors; norm is none, weight or spectral."""
    weight = (after, before, *kernel)
    shapes: dict[str, Shape] = {f"{name}.bias": (after,)} if bias else {}
    if norm == "weight":
        return shapes | {f"{name}.weight_g": (after, *[1] * (1 + len(kernel))), f"{name}.weight_v": weight}
    if norm == "spectral":
        vectors = {f"{name}.weight_u": (after,), f"{name}.weight_v": (before * math.prod(kernel),)}
        return shapes | {f"{name}.weight_orig": weight} | vectors
    return {f"{name}.weight": weight} | shapes


def normalisation(name: str, channels: int, *, running: bool) -> dict[str, Shape]:
    """The names and shapes of the tensors of BatchNorm, or of GroupNorm without running statistics."""
    shapes: dict[str, Shape] = {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
    if running:
        shapes |= {f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)}
        shapes |= {f"{name}.num_batches_tracked": ()}
    return shapes
