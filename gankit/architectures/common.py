"""What the architectures share: their two base classes, and how names become layers."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gankit.blocks import BLOCKS
from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_count
from gankit.registry import Spec

# no string: the registry reads the types of a factory's arguments from other modules
BlockRef: TypeAlias = str | Spec | Callable[..., nn.Module]
OutputActivation = Literal["sigmoid", "tanh", "identity"]


def build_block(
    block: BlockRef,
    in_features: int,
    out_features: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Module:
    """Build one block of a network; `device` and `dtype` are passed on only where they are given.

    Example:
        >>> build_block("linear_relu", 3, 5, None, None)[0]
        Linear(in_features=3, out_features=5, bias=True)
    """
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    given = {key: value for key, value in options.items() if value is not None}
    return BLOCKS.build(block, in_features, out_features, **given)


def build_blocks(
    block: BlockRef, widths: Sequence[int], device: torch.device | str | None, dtype: torch.dtype | None
) -> list[nn.Module]:
    """Build the blocks from each width to the next.

    Example:
        >>> [type(one).__name__ for one in build_blocks("maxout", [3, 5, 7], None, None)]
        ['Maxout', 'Maxout']
    """
    return [build_block(block, a, b, device, dtype) for a, b in itertools.pairwise(widths)]


def layer_widths(widths: Sequence[int] | None, hidden_dim: int, depth: int) -> list[int]:
    """Return the given widths, or `depth` of them that double from `hidden_dim`.

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
    """Yield the layer of an output activation: sigmoid for [0, 1], tanh for [-1, 1], none for identity.

    Example:
        >>> list(output_layers("tanh")), list(output_layers("identity"))
        ([Tanh()], [])
    """
    layers = {"sigmoid": [nn.Sigmoid()], "tanh": [nn.Tanh()], "identity": []}
    if activation not in layers:
        raise BadValueError(f"output_activation must be one of {', '.join(layers)}, got {activation!r}")
    yield from layers[activation]


def checked_shape(sample_shape: Sequence[int]) -> tuple[int, ...]:
    """Return `sample_shape` as a tuple of positive numbers, or raise `BadValueError`.

    Example:
        >>> checked_shape([1, 28, 28])
        (1, 28, 28)
    """
    is_shape = isinstance(sample_shape, Sequence) and not isinstance(sample_shape, str)
    shape = tuple(sample_shape) if is_shape else ()
    if not shape or any(isinstance(size, int) and size < 1 for size in shape):
        raise BadValueError(f"sample_shape must be positive sizes such as (1, 28, 28), got {shape}")
    for size in shape:
        check_count("sample_shape", size)
    return shape


def one_hot(owner: nn.Module, condition: Tensor | None, num_classes: int | None, like: Tensor) -> Tensor | None:
    """Return class labels `(N,)` as `(N, num_classes)`, and None for a network without classes.

    Args:
        owner: the network, for messages.
        condition: the labels, or None.
        num_classes: how many classes the network knows, or None.
        like: what the labels belong to, `(N, ...)`; the code gets its device and type.

    Raises:
        BadArgumentsError: for a missing or an unwanted condition.
        ShapeError: for labels that are not `(N,)` integers.

    Example:
        >>> one_hot(nn.Identity(), torch.tensor([2, 0]), 3, torch.zeros(2, 10))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    name = type(owner).__name__
    if num_classes is None:
        if condition is not None:
            raise BadArgumentsError(
                f"{name} was built without num_classes, so it takes no condition, got one of shape "
                f"{tuple(condition.shape)}"
            )
        return None
    if condition is None:
        raise BadArgumentsError(f"{name} was built with num_classes={num_classes}, so it needs a condition")
    if condition.shape != like.shape[:1] or condition.dtype.is_floating_point:
        raise ShapeError(
            f"{name} needs a condition of integer labels of shape {tuple(like.shape[:1])}, got "
            f"{condition.dtype} of shape {tuple(condition.shape)}"
        )
    # shape[0], because len() would fix the batch size of an exported network
    empty = torch.zeros(like.shape[0], num_classes, device=like.device, dtype=like.dtype)
    return empty.scatter(1, condition.long().unsqueeze(1), 1.0)


class Generator(nn.Module):
    """The outside of a generator: it checks latents, conditions them, and gives samples their shape.

    Conditioning is that of Mirza & Osindero 2014 (section 3.2): the label's one-hot code joins the latent.

    Attributes:
        network: the inner network, from `(N, latent_dim + classes)` to anything of `sample_shape`'s size.
    """

    network: nn.Sequential

    def __init__(self, latent_dim: int, sample_shape: Sequence[int], num_classes: int | None) -> None:
        check_count("latent_dim", latent_dim)
        if num_classes is not None:
            check_count("num_classes", num_classes)
        super().__init__()
        self.latent_dim = latent_dim
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        self.num_classes = num_classes

    @property
    def input_dim(self) -> int:
        """The inner network's input width."""
        return self.latent_dim + (self.num_classes or 0)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, latent_dim)` and labels `(N,)` in, `(N, *sample_shape)` out."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ShapeError(
                f"{type(self).__name__} needs latents of shape (N, {self.latent_dim}), got {tuple(z.shape)}"
            )
        code = one_hot(self, condition, self.num_classes, z)
        if code is not None:
            z = torch.cat([z, code], dim=1)
        return self.network(z).view(z.shape[0], *self.sample_shape)


class Discriminator(nn.Module, abc.ABC):
    """The outside of a discriminator: it checks samples, conditions them, and gives logits their shape.

    Attributes:
        network: the inner network, from samples (as `prepare` gives them) to `(N, 1, ...)`.
    """

    network: nn.Sequential

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None = None) -> None:
        if num_classes is not None:
            check_count("num_classes", num_classes)
        super().__init__()
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        self.num_classes = num_classes

    @abc.abstractmethod
    def prepare(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Bring samples and the label's code into the shape the inner network takes."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` and labels `(N,)` in, logits `(N,)` out."""
        return self.network(self.prepared(x, condition)).view(x.shape[0])

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` in, what the last layer sees out: `(N, ...)`."""
        return self.network[:-1](self.prepared(x, condition))

    def prepared(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return what the inner network takes; `ShapeError` for samples of another shape."""
        if x.shape[1:] != self.sample_shape:
            wanted = ", ".join(["N", *map(str, self.sample_shape)])
            raise ShapeError(f"{type(self).__name__} needs samples of shape ({wanted}), got {tuple(x.shape)}")
        return self.prepare(x, one_hot(self, condition, self.num_classes, x))
