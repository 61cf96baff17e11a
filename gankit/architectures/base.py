"""The base classes of generators and discriminators: they check inputs, add conditions and shape outputs."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_count


def checked_shape(sample_shape: Sequence[int]) -> tuple[int, ...]:
    """Return `sample_shape` as a tuple of positive integers.

    Raises:
        BadValueError: If it is empty, or one of its sizes is not positive.
        BadArgumentsError: If one of its sizes is not an integer.

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


def check_samples(owner: nn.Module, x: Tensor, sample_shape: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless `x` is `(N, *sample_shape)`; the message names the class of `owner`.

    Example:
        >>> check_samples(nn.Identity(), torch.zeros(4, 1, 28, 28), (1, 28, 28))
    """
    if x.shape[1:] != sample_shape:
        wanted = ", ".join(["N", *map(str, sample_shape)])
        raise ShapeError(f"{type(owner).__name__} needs samples of shape ({wanted}), got {tuple(x.shape)}")


def flatten_with_code(x: Tensor, code: Tensor | None) -> Tensor:
    """Return each sample as a vector, followed by the code of its label if there is one.

    Example:
        >>> flatten_with_code(torch.zeros(4, 1, 28, 28), torch.zeros(4, 10)).shape
        torch.Size([4, 794])
    """
    flat = x.flatten(1)
    return flat if code is None else torch.cat([flat, code], dim=1)


def append_planes(x: Tensor, code: Tensor | None) -> Tensor:
    """Return pictures with the code of their labels, if there is one, as further constant planes.

    Example:
        >>> append_planes(torch.zeros(4, 1, 28, 28), torch.zeros(4, 10)).shape
        torch.Size([4, 11, 28, 28])
    """
    return x if code is None else torch.cat([x, code[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)


def one_hot(owner: nn.Module, condition: Tensor | None, num_classes: int | None, like: Tensor) -> Tensor | None:
    """Return the one-hot code `(N, num_classes)` of labels `(N,)`, and None for an unconditional network.

    Args:
        owner: The network; messages name its class.
        condition: The labels, or None.
        num_classes: The number of classes of the network. None if it is unconditional.
        like: The tensor `(N, ...)` to which the labels belong; the code gets its device and data type.

    Raises:
        BadArgumentsError: If a conditional network gets no condition, or an unconditional one gets a condition.
        ShapeError: If the labels are not `(N,)` integers.

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
    # shape[0] instead of len(), which would fix the batch size of an exported network
    empty = torch.zeros(like.shape[0], num_classes, device=like.device, dtype=like.dtype)
    return empty.scatter(1, condition.long().unsqueeze(1), 1.0)


class Generator(nn.Module):
    """Base class of generators: it checks the latents, adds the condition, and gives the samples their shape.

    A condition is added as in Mirza & Osindero 2014 (section 3.2): the one-hot code of the label is appended to the
    latent.

    Args:
        latent_dim: The length of one latent.
        sample_shape: The shape of one sample.
        num_classes: The number of classes of a conditional generator. None for an unconditional one.

    Attributes:
        network: The inner network, from `(N, latent_dim + num_classes)` to any shape with as many elements as
            `(N, *sample_shape)`.
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
        """The input width of the inner network."""
        return self.latent_dim + (self.num_classes or 0)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return samples `(N, *sample_shape)` from latents `(N, latent_dim)` with labels `(N,)`."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ShapeError(
                f"{type(self).__name__} needs latents of shape (N, {self.latent_dim}), got {tuple(z.shape)}"
            )
        code = one_hot(self, condition, self.num_classes, z)
        if code is not None:
            z = torch.cat([z, code], dim=1)
        return self.network(z).view(z.shape[0], *self.sample_shape)


class Discriminator(nn.Module, abc.ABC):
    """Base class of discriminators: it checks the samples, adds the condition, and gives the logits their shape.

    Args:
        sample_shape: The shape of one sample.
        num_classes: The number of classes of a conditional discriminator. None for an unconditional one.

    Attributes:
        network: The inner network, from samples (as `prepare` returns them) to one logit per sample.
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
        """Return the input of the inner network for samples and the codes of their labels."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits `(N,)` of samples `(N, *sample_shape)` with labels `(N,)`."""
        return self.network(self.network_input(x, condition)).view(x.shape[0])

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the input of the last layer, `(N, ...)`, for samples `(N, *sample_shape)`."""
        return self.network[:-1](self.network_input(x, condition))

    def network_input(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Check samples and condition, and return the input of the inner network.

        Raises:
            ShapeError: If the samples have another shape, or the labels do.
            BadArgumentsError: If a condition is missing, or given to an unconditional network.
        """
        check_samples(self, x, self.sample_shape)
        return self.prepare(x, one_hot(self, condition, self.num_classes, x))
