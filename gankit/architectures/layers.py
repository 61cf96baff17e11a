"""What architectures are built with: minibatch standard deviation, normalised weights, an initial range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from gankit.errors import ShapeError, check_count, check_positive

_TINY = 1e-12  # torch's own bound against a division by zero


class MinibatchStandardDeviation(nn.Module):
    """Append the standard deviation of the batch as one more feature (Karras et al. 2017, section 3).

    Formula: the standard deviation of each feature at each position over the samples of a group, averaged over
    features and positions to one number per group. It shows D when all samples of a generator are alike.

    Args:
        group_size: The number of consecutive samples in a group. None for the whole batch.

    Raises:
        BadValueError: If `group_size` is less than 1.
        ShapeError: If it is called with a batch that is not a whole number of groups.

    Example:
        >>> MinibatchStandardDeviation()(torch.tensor([[1.0], [3.0]]))
        tensor([[1., 1.],
                [3., 1.]])
    """

    mixes_samples = True

    def __init__(self, group_size: int | None = None) -> None:
        if group_size is not None:
            check_count("group_size", group_size)
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(N, C + 1, ...)` for features `(N, C, ...)`."""
        group = self.group_size or x.shape[0]
        if x.shape[0] % group:
            raise ShapeError(
                f"minibatch_std with groups of {group} needs a batch size that is a multiple of {group}, got "
                f"{x.shape[0]}"
            )
        groups = x.reshape(-1, group, *x.shape[1:])
        # 1e-8 as in the paper's code: the square root has no gradient at zero
        deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().flatten(1).mean(1)
        each = deviation.repeat_interleave(group, output_size=x.shape[0])
        return torch.cat([x, each.view(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])], dim=1)


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value (Miyato et al. 2018, alg. 1), as a parametrization.

    Formula: `W / (u^T W v)`, where W is the weight as a matrix with one row per output. In train mode, each use makes
    one step of the power method, `u <- W v / |W v|` and `v <- W^T u / |W^T u|`, without a gradient. It computes the
    same numbers as torch's own `spectral_norm` and has the same names in the `state_dict`. Unlike torch's, it updates
    its vectors by operations that `torch.vmap` supports, so that it also works in replicas.

    Args:
        weight: The weight that will be divided. It determines the sizes of the vectors, which 15 steps of the power
            method initialise.

    Attributes:
        _u: The left singular vector, a buffer.
        _v: The right singular vector, a buffer.

    Example:
        >>> norm = SpectralNorm(weight := torch.diag(torch.tensor([4.0, 1.0])))
        >>> norm(weight)
        tensor([[1.0000, 0.0000],
                [0.0000, 0.2500]])
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
            self.register_buffer(name, F.normalize(matrix.new_empty(size).normal_(), dim=0, eps=_TINY))
        for _ in range(15):
            self._iterate(matrix)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        self._u.copy_(F.normalize(matrix.mv(self._v), dim=0, eps=_TINY))
        self._v.copy_(F.normalize(matrix.t().mv(self._u), dim=0, eps=_TINY))

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by its largest singular value."""
        matrix = weight.flatten(1)
        if self.training:
            self._iterate(matrix)
        # copies, because the next use changes the vectors before the gradient of this one is computed
        u, v = self._u.clone(), self._v.clone()
        return weight / u.dot(matrix.mv(v))


class WeightNorm(nn.Module):
    """Split a weight into a length and a direction for each output (Salimans & Kingma 2016), as a parametrization.

    Formula: `w = g v / |v|`, with the norm over all but the first dimension. It computes the same numbers as torch's
    own `weight_norm` and has the same names in the `state_dict`: `original0` is g, `original1` is v. Unlike torch's,
    it uses operations that `torch.vmap` supports, so that it also works in replicas.

    Example:
        >>> norm = WeightNorm()
        >>> norm(torch.tensor([[2.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([[1.2000, 1.6000]])
    """

    @override
    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """Return the weight of the given length and direction."""
        return direction * (length / _lengths(direction))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the length and the direction that give the weight."""
        return _lengths(weight), weight


def _lengths(weight: Tensor) -> Tensor:
    return weight.flatten(1).square().sum(1).sqrt().view(-1, *[1] * (weight.ndim - 1))


def initialise_uniformly(network: nn.Module, limit: float) -> None:
    """Draw the weights of every linear layer uniformly from [-limit, limit), and set its bias to zero.

    Raises:
        BadValueError: If `limit` is not positive.

    Example:
        >>> layer = nn.Linear(20, 10)
        >>> initialise_uniformly(layer, 0.005)
        >>> bool(layer.weight.abs().max() <= 0.005), layer.bias.count_nonzero().item()
        (True, 0)
    """
    check_positive("initial_range", limit)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -limit, limit)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(layer.bias)


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weight of every linear and convolutional layer by its largest singular value (Miyato et al. 2018).

    Each weight gets a `SpectralNorm`, which makes one step of the power method in each forward pass in train mode. The
    layers can be copied and pickled, which torch refuses for its parametrizations.

    Example:
        >>> layer = nn.Sequential(nn.Linear(20, 10))
        >>> normalise_spectrally(layer)
        >>> for _ in range(50):
        ...     _ = layer(torch.randn(1, 20))
        >>> round(torch.linalg.matrix_norm(layer[0].weight, 2).item(), 3)
        1.0
    """
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
            _make_picklable(layer)


def normalise_weights(network: nn.Module) -> None:
    """Give the weight of every linear and convolutional layer a length of its own (Salimans & Kingma 2016).

    Example:
        >>> layer = nn.Sequential(nn.Conv1d(2, 3, 5))
        >>> before = layer[0].weight.clone()
        >>> normalise_weights(layer)
        >>> torch.allclose(layer[0].weight, before)
        True
    """
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            parametrize.register_parametrization(layer, "weight", WeightNorm())
            _make_picklable(layer)


def _make_picklable(layer: nn.Module) -> None:
    """Let a layer with parametrizations be pickled, by the class that torch has made for this layer alone."""
    type(layer).__reduce_ex__ = _reduced  # pyright: ignore[reportAttributeAccessIssue]


def _reduced(layer: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Return how pickle makes a layer with parametrizations: the class anew, and then its attributes."""
    own = parametrize.type_before_parametrizations(layer)
    names = list(cast(nn.ModuleDict, layer.parametrizations)) if parametrize.is_parametrized(layer) else []
    return _parametrized, (own, names), vars(layer)


def _parametrized(kind: type[nn.Module], names: Sequence[str]) -> nn.Module:
    """Return an empty layer whose tensors of these names are parametrized; torch makes its class for that."""
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    for name in names:
        layer.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(layer, name, nn.Identity())
    if names:
        _make_picklable(layer)
    return layer
