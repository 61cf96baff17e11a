"""The base classes of generators and discriminators: they check inputs, add conditions and shape outputs."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gankit.answers import Answer, Features
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
    """Return pictures or waveforms with the code of their labels, if there is one, as further constant channels.

    Example:
        >>> append_planes(torch.zeros(4, 1, 28, 28), torch.zeros(4, 10)).shape
        torch.Size([4, 11, 28, 28])
    """
    if code is None:
        return x
    planes = code.view(*code.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], dim=1)


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


class PositionalDiscriminator(nn.Module, abc.ABC):
    """Base class of discriminators that judge positions: of pictures `(N, C, H, W)` or of waveforms `(N, C, T)`.

    It checks samples of any size, joins the condition to them as further channels, and returns the judgements with the
    features of the same forward pass. A subclass defines `judge`, and sets `minimum_size` before it calls
    `check_size`.

    Args:
        sample_shape: The shape of one sample, `(C, H, W)` or `(C, T)`.
        dimensions: The number of dimensions after the channels: 2 for pictures, 1 for waveforms.
        num_classes: The number of classes of a conditional discriminator. None for one without labels.
        condition_channels: The number of channels of a condition that has the size of the sample. None for one without
            such a condition.
        features: Whether to return an `Answer` with features.

    Attributes:
        kind: The name of the architecture in messages.
        minimum_size: The smallest size that leaves a position to judge.
        minimum_sizes: The same for each depth from 1 to the network's own, if it has a depth.
    """

    kind: str
    minimum_size: int
    minimum_sizes: Sequence[int] = ()

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        dimensions: int,
        num_classes: int | None,
        condition_channels: int | None,
        features: bool,
    ) -> None:
        for name, number in (("num_classes", num_classes), ("condition_channels", condition_channels)):
            if number is not None:
                check_count(name, number)
        samples = "pictures" if dimensions == 2 else "waveforms"
        if num_classes is not None and condition_channels is not None:
            raise BadArgumentsError(
                f"{self.kind} takes num_classes for labels or condition_channels for {samples}, got both: "
                f"num_classes={num_classes} and condition_channels={condition_channels}"
            )
        super().__init__()
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        self.num_classes = num_classes
        self.condition_channels = condition_channels
        self.returns_features = features
        self._sizes = "H, W" if dimensions == 2 else "T"
        if len(self.sample_shape) != 1 + dimensions:
            raise ShapeError(f"{self.kind} needs {samples} (C, {self._sizes}), got sample_shape={self.sample_shape}")

    @property
    def input_channels(self) -> int:
        """The number of channels of samples and condition together."""
        return self.sample_shape[0] + (self.num_classes or self.condition_channels or 0)

    @abc.abstractmethod
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits of each head, `(N, ...)`, and the features, for what `network_input` returns."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | Answer:
        """Return the judgements of samples `(N, C, ...)`, or an `Answer` of them and the features.

        Args:
            x: The samples.
            condition: Labels `(N,)`, or a condition of the samples' size; or None.
        """
        heads, features = self.judge(self.network_input(x, condition))
        if self.returns_features:
            return Answer(heads=heads, features=features)
        return heads[0] if len(heads) == 1 else Answer(heads=heads)

    def network_input(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Check samples and condition, and return them joined along the channels.

        Raises:
            ShapeError: If the samples have another number of channels or are too small, or the condition does not fit.
            BadArgumentsError: If a condition is missing, or given to an unconditional network.
        """
        name, channels = type(self).__name__, self.sample_shape[0]
        if x.ndim != 1 + len(self.sample_shape) or x.shape[1] != channels:
            raise ShapeError(
                f"{name} with sample_shape={self.sample_shape} needs samples of shape (N, {channels}, {self._sizes}), "
                f"got {tuple(x.shape)}"
            )
        self.check_size(x.shape)
        if self.condition_channels is None:
            return append_planes(x, one_hot(self, condition, self.num_classes, x))
        wanted = (x.shape[0], self.condition_channels, *x.shape[2:])
        if condition is None:
            raise BadArgumentsError(
                f"{name} was built with condition_channels={self.condition_channels}, so it needs a condition"
            )
        if condition.shape != wanted:
            raise ShapeError(f"{name} needs a condition of shape {wanted}, got {tuple(condition.shape)}")
        return torch.cat([x, condition.to(x.dtype)], dim=1)

    def check_size(self, shape: Sequence[int]) -> None:
        """Raise `ShapeError` unless the sizes in a shape `(..., H, W)` or `(..., T)` are at least `minimum_size`."""
        sizes = len(self.sample_shape) - 1
        given = min(shape[-sizes:])
        if given >= self.minimum_size:
            return
        depth = way = ""
        if self.minimum_sizes:  # larger depths need larger samples
            fitting = sum(minimum <= given for minimum in self.minimum_sizes)
            depth = f" for depth={len(self.minimum_sizes)}"
            way = f"; depth={fitting} fits" if fitting else f"; no depth fits less than {self.minimum_sizes[0]}"
        size = "a height and width" if sizes == 2 else "a length"
        raise ShapeError(f"{self.kind} needs {size} of {self.minimum_size} or more{depth}, got {tuple(shape)}{way}")


def outputs_of(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Return the output of each of the layers, which are applied one after the other.

    Example:
        >>> [one.shape[1] for one in outputs_of([nn.Linear(4, 3), nn.Linear(3, 2)], torch.zeros(1, 4))]
        [3, 2]
    """
    outputs: list[Tensor] = []
    for layer in layers:
        x = layer(x)
        outputs.append(x)
    return outputs
