"""How an architecture's arguments become layers: names of blocks, widths and depths, output activations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from gankit.blocks import BLOCKS
from gankit.errors import BadValueError, check_count
from gankit.registry import Spec

# not written as a string: the registry evaluates it in the modules of the architectures, which may lack these names
BlockRef: TypeAlias = str | Spec | Callable[..., nn.Module]
OutputActivation = Literal["sigmoid", "tanh", "identity"]


def given_options(device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """Return `device` and `dtype` as keyword arguments, without those that are None.

    A factory that has no such parameters can then be called as long as neither is given.

    Example:
        >>> given_options("cpu", None)
        {'device': 'cpu'}
    """
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    return {key: value for key, value in options.items() if value is not None}


def build_block(
    block: BlockRef,
    in_features: int,
    out_features: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Module:
    """Build one block of a network.

    Example:
        >>> build_block("linear_relu", 3, 5, None, None)[0]
        Linear(in_features=3, out_features=5, bias=True)
    """
    return BLOCKS.build(block, in_features, out_features, **given_options(device, dtype))


def build_blocks(
    block: BlockRef, widths: Sequence[int], device: torch.device | str | None, dtype: torch.dtype | None
) -> list[nn.Module]:
    """Build a block from each width to the next one.

    Example:
        >>> [type(one).__name__ for one in build_blocks("maxout", [3, 5, 7], None, None)]
        ['Maxout', 'Maxout']
    """
    return [build_block(block, a, b, device, dtype) for a, b in itertools.pairwise(widths)]


def layer_widths(widths: Sequence[int] | None, hidden_dim: int, depth: int) -> list[int]:
    """Return the given widths, or `depth` widths that begin with `hidden_dim` and double.

    Example:
        >>> layer_widths(None, 128, 3), layer_widths([7, 5], 128, 3)
        ([128, 256, 512], [7, 5])
    """
    check_count("hidden_dim", hidden_dim)
    check_count("depth", depth)
    if widths is None:
        return [hidden_dim * 2**i for i in range(depth)]
    if not widths or any(width < 1 for width in widths):
        raise BadValueError(f"widths must be one or more positive numbers, got {tuple(widths)}")
    return list(widths)


def output_layers(activation: OutputActivation) -> Iterator[nn.Module]:
    """Yield the layer of an output activation: sigmoid for [0, 1], tanh for [-1, 1], and no layer for identity.

    Example:
        >>> list(output_layers("tanh")), list(output_layers("identity"))
        ([Tanh()], [])
    """
    layers = {"sigmoid": [nn.Sigmoid()], "tanh": [nn.Tanh()], "identity": []}
    if activation not in layers:
        raise BadValueError(f"output_activation must be one of {', '.join(layers)}, got {activation!r}")
    yield from layers[activation]
