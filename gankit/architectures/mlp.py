"""The multilayer perceptrons of the vanilla GAN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator, Generator, flatten_with_code
from gankit.architectures.block_stacks import BlockRef, OutputActivation, build_blocks, layer_widths, output_layers
from gankit.architectures.layers import MinibatchStandardDeviation, normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS
from gankit.errors import BadArgumentsError


@GENERATORS.register("mlp")
class MLPGenerator(Generator):
    """Multilayer perceptron, by default the lecture's (after Goodfellow et al. 2014, section 5).

    Formula: blocks whose widths double, a linear layer, and an output activation:
    `z 10 -> 128 -> 256 -> 512 -> 1024 -> 784`. Each arrow is a `linear_bn_relu`, except the last, which is a Linear
    and a Sigmoid. With `latent_dim=10` and `sample_shape=(1, 28, 28)` it has 1,498,768 parameters.

    Args:
        latent_dim: The length of one latent.
        sample_shape: The shape of one sample.
        hidden_dim: The width of the first block.
        depth: The number of blocks.
        widths: The widths of all blocks, instead of `hidden_dim` and `depth`.
        block: A name in `BLOCKS`, a `Spec`, or a function of two widths.
        output_activation: `sigmoid` for samples in [0, 1], `tanh` for [-1, 1], `identity` for any range.
        num_classes: The number of classes of a conditional generator, which is called as `forward(z, labels)`
            (Mirza & Osindero 2014). None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        BadValueError: If a size is not positive, or the activation is unknown.
        ShapeError: If it is called with latents of another shape.

    Example:
        >>> G = MLPGenerator(10, (1, 28, 28))
        >>> G(torch.randn(4, 10)).shape, sum(p.numel() for p in G.parameters())
        (torch.Size([4, 1, 28, 28]), 1498768)
    """

    def __init__(
        self,
        latent_dim: int,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 128,
        depth: int = 4,
        widths: Sequence[int] | None = None,
        block: BlockRef = "linear_bn_relu",
        output_activation: OutputActivation = "sigmoid",
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes)
        hidden = layer_widths(widths, hidden_dim, depth)
        self.network: nn.Sequential = nn.Sequential(
            *build_blocks(block, [self.input_dim, *hidden], device, dtype),
            nn.Linear(hidden[-1], math.prod(self.sample_shape), device=device, dtype=dtype),
            *output_layers(output_activation),
        )


@DISCRIMINATORS.register("mlp")
class MLPDiscriminator(Discriminator):
    """Multilayer perceptron, by default the lecture's (after Goodfellow et al. 2014, section 5).

    Formula: blocks whose widths halve, and a linear layer to one logit: `784 -> 512 -> 256 -> 128 -> 1`. Each arrow is
    a `linear_leaky_relu`, except the last. With `sample_shape=(1, 28, 28)` it has 566,273 parameters.

    Args:
        sample_shape: The shape of one sample.
        hidden_dim: The width of the last block.
        depth: The number of blocks.
        widths: The widths of all blocks, first to last, instead of `hidden_dim` and `depth`.
        block: A name in `BLOCKS`, a `Spec`, or a function of two widths.
        spectral_norm: Divide every weight by its largest singular value (Miyato et al. 2018).
        minibatch_std: Give the last layer the standard deviation of the batch as a feature (Karras et al. 2017).
        num_classes: The number of classes of a conditional discriminator, which is called as `forward(x, labels)` and
            gets the one-hot code of the label with the sample. None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        BadValueError: If a size is not positive.
        ShapeError: If it is called with samples of another shape.

    Example:
        >>> D = MLPDiscriminator((1, 28, 28))
        >>> D(torch.rand(4, 1, 28, 28)).shape, sum(p.numel() for p in D.parameters())
        (torch.Size([4]), 566273)
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 128,
        depth: int = 3,
        widths: Sequence[int] | None = None,
        block: BlockRef = "linear_leaky_relu",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(sample_shape, num_classes)
        hidden = layer_widths(widths, hidden_dim, depth)
        if widths is None:
            hidden.reverse()
        inputs = math.prod(self.sample_shape) + (num_classes or 0)
        self.network: nn.Sequential = nn.Sequential(
            *build_blocks(block, [inputs, *hidden], device, dtype),
            *([MinibatchStandardDeviation()] if minibatch_std else []),
            nn.Linear(hidden[-1] + minibatch_std, 1, device=device, dtype=dtype),
        )
        if spectral_norm:
            normalise_spectrally(self.network)

    @override
    def prepare(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Flatten the samples and append the code of the label."""
        return flatten_with_code(x, code)


def load_lecture_state_dict(network: MLPGenerator | MLPDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights that were saved from the lecture's own classes, whose layers are called `gen` and `disc`.

    The network's outputs are then bit-identical to those of the lecture's network.

    Args:
        network: The generator or discriminator that gets the weights.
        state_dict: The saved weights, with keys `gen.0.0.weight`, ... for a generator and `disc.0.0.weight`, ... for a
            discriminator.

    Raises:
        BadArgumentsError: If a key has another prefix, or the weights do not fit the network.

    Example:
        >>> G = MLPGenerator(10, (1, 28, 28))
        >>> saved = {f"gen.{key}": value for key, value in G.network.state_dict().items()}
        >>> load_lecture_state_dict(G, saved)
    """
    prefix = "gen." if isinstance(network, MLPGenerator) else "disc."
    foreign = [key for key in state_dict if not key.startswith(prefix)]
    if foreign:
        raise BadArgumentsError(
            f"the lecture's weights for a {type(network).__name__} are called {prefix}*, got {foreign[0]!r}"
        )
    try:
        network.network.load_state_dict({key.removeprefix(prefix): v for key, v in state_dict.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BadArgumentsError(f"these weights do not fit the {type(network).__name__}: {reason}") from None
