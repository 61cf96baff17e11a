"""The base classes of generators and discriminators: they check inputs, add conditions and shape outputs."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_count


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
