"""Layers and treatments that several architectures offer as options."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gankit.errors import ShapeError, check_positive


class MinibatchStandardDeviation(nn.Module):
    """Append how much the batch varies, as one more feature (Karras et al. 2017, section 3).

    Formula: the standard deviation of each feature at each place over the group, averaged over features and
    places to one number a group. It lets D see a generator that always answers the same.

    Args:
        group_size: over how many samples that follow each other; None for the whole batch.

    Raises:
        BadValueError: for a group of no samples.
        ShapeError: when called with a batch that is not a whole number of groups.

    Example:
        >>> MinibatchStandardDeviation()(torch.tensor([[1.0], [3.0]]))
        tensor([[1., 1.],
                [3., 1.]])
    """

    mixes_samples = True

    def __init__(self, group_size: int | None = None) -> None:
        if group_size is not None:
            check_positive("group_size", group_size)
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, ...)` in, `(N, C + 1, ...)` out."""
        group = self.group_size or x.shape[0]
        if x.shape[0] % group:
            raise ShapeError(
                f"minibatch_std in groups of {group} needs a batch that is a multiple of it, got {x.shape[0]}"
            )
        groups = x.reshape(-1, group, *x.shape[1:])
        # 1e-8 as in the paper's code: the square root has no gradient at zero
        deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().flatten(1).mean(1)
        each = deviation.repeat_interleave(group, output_size=x.shape[0])
        return torch.cat([x, each.view(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])], dim=1)


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weight of every linear and convolutional layer by its largest singular value.

    That is Miyato et al. 2018, by torch's own parametrization: one step of the power method each forward
    pass in train mode.

    Example:
        >>> layer = nn.Sequential(nn.Linear(20, 10))
        >>> normalise_spectrally(layer)
        >>> for _ in range(50):
        ...     _ = layer(torch.randn(1, 20))
        >>> round(torch.linalg.matrix_norm(layer[0].weight, 2).item(), 3)
        1.0
    """
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            parametrizations.spectral_norm(layer)
