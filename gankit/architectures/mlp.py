"""The multilayer perceptrons of the vanilla GAN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator, Generator, flatten_with_code
from gankit.architectures.block_stacks import BlockRef, OutputActivation, build_blocks, layer_widths, output_layers
from gankit.architectures.layers import MinibatchStandardDeviation, initialise_uniformly, normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS
from gankit.errors import BadArgumentsError, BadValueError


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
        initial_range: The bound of the initial weights, which are drawn uniformly from both sides of zero, with
            biases of zero. None keeps torch's own.
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
        initial_range: float | None = None,
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
        if initial_range is not None:
            initialise_uniformly(self.network, initial_range)


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
        input_dropout: The probability with which a value of the sample is set to zero in train mode (Srivastava et al.
            2014). The others are divided by the probability that they are kept.
        dropout: The same probability for the outputs of each block.
        initial_range: The bound of the initial weights, which are drawn uniformly from both sides of zero, with
            biases of zero. None keeps torch's own.
        num_classes: The number of classes of a conditional discriminator, which is called as `forward(x, labels)` and
            gets the one-hot code of the label with the sample. None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        BadValueError: If a size is not positive, or a probability is not in [0, 1).
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
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        initial_range: float | None = None,
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(sample_shape, num_classes)
        hidden = layer_widths(widths, hidden_dim, depth)
        if widths is None:
            hidden.reverse()
        inputs = math.prod(self.sample_shape) + (num_classes or 0)
        blocks = build_blocks(block, [inputs, *hidden], device, dtype)
        self.network: nn.Sequential = nn.Sequential(
            *_dropout("input_dropout", input_dropout),
            *(layer for one in blocks for layer in (one, *_dropout("dropout", dropout))),
            *([MinibatchStandardDeviation()] if minibatch_std else []),
            nn.Linear(hidden[-1] + minibatch_std, 1, device=device, dtype=dtype),
        )
        if initial_range is not None:
            initialise_uniformly(self.network, initial_range)
        if spectral_norm:
            normalise_spectrally(self.network)

    @override
    def prepare(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Flatten the samples and append the code of the label."""
        return flatten_with_code(x, code)


def _dropout(name: str, probability: float) -> list[nn.Module]:
    """Return the layer, or none for a probability of zero, so that the names of the other layers stay as they are."""
    if not 0 <= probability < 1:
        raise BadValueError(f"{name} must be a probability in [0, 1), got {probability}")
    return [nn.Dropout(probability)] if probability else []


def load_lecture_state_dict(network: MLPGenerator | MLPDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights that were saved from the lecture's own classes, whose layers are called `gen` and `disc`.

    The network's outputs are then bit-identical to those of the lecture's network.

    Args:
        network: The generator or discriminator that gets the weights.
        state_dict: The saved weights, with keys `gen.0.0.weight`, ... for a generator and `disc.0.0.weight`, ... for a
            discriminator.

    Raises:
        BadArgumentsError: If the weights do not fit the network. The message names the keys that are missing or too
            many, and says what was probably meant.

    Example:
        >>> G = MLPGenerator(10, (1, 28, 28))
        >>> saved = {f"gen.{key}": value for key, value in G.network.state_dict().items()}
        >>> load_lecture_state_dict(G, saved)
    """
    kind = type(network).__name__
    if not isinstance(state_dict, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        meant = "; give its .state_dict()" if isinstance(state_dict, nn.Module) else ""
        raise BadArgumentsError(
            f"state_dict must be a mapping of names to weights, got a {type(state_dict).__name__}{meant}"
        )
    for key in state_dict:
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"state_dict must have names as keys, got {key!r}")
    prefix = "gen." if isinstance(network, MLPGenerator) else "disc."
    own = {prefix + key: tensor for key, tensor in network.network.state_dict().items()}
    missing, superfluous = [[*own.keys() - state_dict.keys()], [*state_dict.keys() - own.keys()]]
    if missing or superfluous:
        raise BadArgumentsError(
            f"the lecture's weights for an {kind} are called {prefix}*, got {_some(missing)} missing and "
            f"{_some(superfluous)} superfluous{_probably_meant(own, state_dict)}"
        )
    for key, tensor in own.items():
        if not isinstance(state_dict[key], Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"{key} must be a tensor, got {type(state_dict[key]).__name__}")
        if tensor.shape != state_dict[key].shape:
            raise BadArgumentsError(
                f"these weights do not fit the {kind}: {key} must have the shape {tuple(tensor.shape)}, got "
                f"{tuple(state_dict[key].shape)}; build it with the widths, latent and sample shape of the saved one"
            )
    network.network.load_state_dict({key.removeprefix(prefix): one for key, one in state_dict.items()})


def _some(keys: list[str]) -> str:
    """Return the first key and the number of the others."""
    if len(keys) < 2:
        return repr(keys[0]) if keys else "none"
    return f"{min(keys)!r} and {len(keys) - 1} other{'s' * (len(keys) > 2)}"


def _probably_meant(own: Mapping[str, Tensor], given: Mapping[str, object]) -> str:
    """Return what would make the given weights fit, as the end of a sentence, or nothing."""
    nested = [key for key, value in given.items() if isinstance(value, Mapping)]
    for key in nested:
        if own.keys() & cast("Mapping[str, object]", given[key]).keys():
            return f"; they are probably the entry {key!r} of what was given"
    for other, name in (("gen.", "MLPGenerator"), ("disc.", "MLPDiscriminator")):
        if given and all(key.startswith(other) for key in given) and not all(key.startswith(other) for key in own):
            return f"; they are probably those of a lecture's network that an {name} takes"
    prefix = next(iter(own)).partition(".")[0] + "."
    bare = {key.removeprefix(prefix) for key in own}
    for key in given:
        end = next((one for one in own if key.endswith("." + one)), None)
        if end is not None:
            return f"; remove {key.removesuffix(end)!r} at the beginning of each name"
        if key in bare:
            return f"; write {prefix!r} before each name"
        if key in {"network." + one for one in bare}:
            return "; they are probably gankit's own, for load_state_dict"
    return "; the saved network probably has another number of layers"
