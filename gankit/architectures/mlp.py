"""The multilayer perceptrons of the vanilla GAN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator, Generator
from gankit.architectures.block_stacks import BlockRef, OutputActivation, build_blocks, layer_widths, output_layers
from gankit.architectures.layers import MinibatchStandardDeviation, normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS
from gankit.errors import BadArgumentsError


@GENERATORS.register("mlp")
class MLPGenerator(Generator):
    """Multilayer perceptron, by default the lecture's (after Goodfellow et al. 2014, section 5).

    Formula: blocks of doubling width, a linear layer, an output activation:
    `z 10 -> 128 -> 256 -> 512 -> 1024 -> 784`, each arrow but the last a `linear_bn_relu`, the last a
    Linear and a Sigmoid. With `latent_dim=10` and `sample_shape=(1, 28, 28)`: 1,498,768 parameters.

    Args:
        latent_dim: the length of one latent.
        sample_shape: the shape of one sample.
        hidden_dim: the first block's width.
        depth: the number of blocks.
        widths: every block's width, instead of `hidden_dim` and `depth`.
        block: a name in `BLOCKS`, a `Spec`, or a function of two widths.
        output_activation: `sigmoid` for samples in [0, 1], `tanh` for [-1, 1], `identity` for any.
        num_classes: with it, `forward(z, labels)` is conditional (Mirza & Osindero 2014).
        device: where the weights are made.
        dtype: the weights' type.

    Raises:
        BadValueError: for a size that is not positive or an unknown activation.
        ShapeError: when called with latents of another shape.

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

    Formula: blocks of halving width and a linear layer to one logit: `784 -> 512 -> 256 -> 128 -> 1`, each
    arrow but the last a `linear_leaky_relu`. With `sample_shape=(1, 28, 28)`: 566,273 parameters.

    Args:
        sample_shape: the shape of one sample.
        hidden_dim: the last block's width.
        depth: the number of blocks.
        widths: every block's width, first to last, instead of `hidden_dim` and `depth`.
        block: a name in `BLOCKS`, a `Spec`, or a function of two widths.
        spectral_norm: divide every weight by its largest singular value (Miyato et al. 2018).
        minibatch_std: let the last layer see how much the batch varies (Karras et al. 2017).
        num_classes: with it, `forward(x, labels)` is conditional: the one-hot code joins the sample.
        device: where the weights are made.
        dtype: the weights' type.

    Raises:
        BadValueError: for a size that is not positive.
        ShapeError: when called with samples of another shape.

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
        """Flatten the samples and append the label's code."""
        flat = x.flatten(1)
        return flat if code is None else torch.cat([flat, code], dim=1)


def load_lecture_state_dict(network: MLPGenerator | MLPDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights saved from the lecture's own classes, whose layers are called `gen` and `disc`.

    The outputs are then bit-identical to the lecture's network's.

    Args:
        network: the generator or discriminator to load into.
        state_dict: with keys `gen.0.0.weight`, ... for a generator, `disc.0.0.weight`, ... for a
            discriminator.

    Raises:
        BadArgumentsError: for keys with another prefix, or weights that do not fit the network.

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
