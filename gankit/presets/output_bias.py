"""The initial bias of a generator's last layer, by which its first samples have the mean of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gankit.data import DATASETS, TensorData
from gankit.errors import BadArgumentsError, ShapeError
from gankit.presets.picture_data import in_shape
from gankit.spec import Spec

_MARGIN = 1e-7  # of pylearn2: keeps the bias finite where all samples are equal


def mean_sample(data: Spec, sample_shape: tuple[int, ...], sample_range: tuple[float, float] | None) -> Tensor:
    """Return the mean of all samples of a data set in memory, `(*sample_shape)` in float64, in the preset's range.

    Raises:
        BadArgumentsError: If the data set is not in memory.
        ShapeError: If its samples have another shape.

    Example:
        >>> mean = mean_sample(Spec("mnist_5k"), (1, 28, 28), (0.0, 1.0))
        >>> mean.shape, round(float(mean.mean()), 3)
        (torch.Size([1, 28, 28]), 0.131)
    """
    samples = DATASETS.build(in_shape(data, sample_shape, with_labels=False))
    if not isinstance(samples, TensorData):
        raise BadArgumentsError(f"output_bias_from_data needs a data set in memory, got {data}")
    if samples.sample_shape != sample_shape:
        raise ShapeError(f"data must have samples of shape {sample_shape}, got {samples.sample_shape}")
    mean = samples.samples.mean(0, dtype=torch.float64)
    if samples.samples.dtype != torch.uint8 or sample_range is None:
        return mean
    low, high = sample_range
    return mean / 255 * (high - low) + low


@torch.no_grad()
def set_output_bias(generator: nn.Module, mean: Tensor) -> None:
    """Set the bias of a generator's last layer such that an input of zeros gives the mean (Goodfellow et al. 2014).

    Formula: `b = f^-1(mean)`, where f is the output activation. For a sigmoid this is `log(p / (1 - p))` with p the
    mean, limited to [1e-7, 1 - 1e-7].

    Args:
        generator: The generator, whose `network` must end in a linear layer and at most a sigmoid or tanh.
        mean: The mean, of the shape of a sample.

    Raises:
        BadArgumentsError: If the generator ends in something else.

    Example:
        >>> from gankit.architectures import MLPGenerator
        >>> G = MLPGenerator(2, (1,), widths=[3])
        >>> set_output_bias(G, torch.tensor([0.75]))
        >>> G.network[-2].bias.data  # log(3)
        tensor([1.0986])
    """
    network = getattr(generator, "network", None)
    layers = list(network) if isinstance(network, nn.Sequential) else []
    activation = layers.pop() if layers and isinstance(layers[-1], (nn.Sigmoid, nn.Tanh)) else None
    layer = layers[-1] if layers else None
    bias = layer.bias if isinstance(layer, nn.Linear) and layer.out_features == math.prod(mean.shape) else None
    if bias is None:
        raise BadArgumentsError(
            "output_bias_from_data needs a generator whose network ends in a linear layer with one bias for each value "
            f"of a sample, as mlp's does, got {type(generator).__name__}"
        )
    if activation is not None:
        unit = mean if isinstance(activation, nn.Sigmoid) else (mean + 1) / 2
        # tanh(b) = 2 sigmoid(2 b) - 1
        mean = unit.clamp(_MARGIN, 1 - _MARGIN).logit() / (1 if isinstance(activation, nn.Sigmoid) else 2)
    bias.copy_(mean.flatten())
