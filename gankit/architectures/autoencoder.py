"""The discriminator of energy-based GANs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator, flatten_with_code
from gankit.architectures.block_stacks import BlockRef, build_blocks, layer_widths
from gankit.architectures.registry import DISCRIMINATORS


@DISCRIMINATORS.register("autoencoder")
class AutoencoderDiscriminator(Discriminator):
    """Autoencoder whose logit is its negative reconstruction error (Zhao et al. 2016, section 2.3).

    Formula: `logit = -|Dec(Enc(x)) - x|`, the Euclidean norm over the sample; 0 for a perfect reconstruction. The
    error is the paper's energy, and the loss for it is `energy_based`. Each block of the encoder halves the width,
    down to `hidden_dim`, each block of the decoder doubles it, and a last linear layer outputs the sample.

    Args:
        sample_shape: The shape of one sample.
        hidden_dim: The width of the code.
        depth: The number of blocks in the encoder.
        widths: The widths of the encoder's blocks, the code's last, instead of `hidden_dim` and `depth`.
        block: A name in `BLOCKS`, a `Spec`, or a function of two widths.
        num_classes: The number of classes of a conditional discriminator, which is called as `forward(x, labels)` and
            encodes the sample together with the one-hot code of its label. None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        network: The inner network, from flat samples (with the code of the label) to flat reconstructions.

    Raises:
        BadValueError: If a size is not positive.
        ShapeError: If it is called with samples of another shape.

    Example:
        >>> D = AutoencoderDiscriminator((1, 28, 28))
        >>> logits = D(torch.rand(4, 1, 28, 28))
        >>> logits.shape, bool((logits <= 0).all())
        (torch.Size([4]), True)
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        depth: int = 2,
        widths: Sequence[int] | None = None,
        block: BlockRef = "linear_leaky_relu",
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(sample_shape, num_classes)
        down = layer_widths(widths, hidden_dim, depth)
        if widths is None:
            down.reverse()
        size = math.prod(self.sample_shape)
        encoder = build_blocks(block, [size + (num_classes or 0), *down], device, dtype)
        decoder = build_blocks(block, down[::-1], device, dtype)
        self.network: nn.Sequential = nn.Sequential(
            nn.Sequential(*encoder), *decoder, nn.Linear(down[0], size, device=device, dtype=dtype)
        )

    @override
    def prepare(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Flatten the samples and append the code of the label."""
        return flatten_with_code(x, code)

    @override
    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits `(N,)`, each 0 or less, of samples `(N, *sample_shape)` with labels `(N,)`."""
        reconstruction = self.network(self.network_input(x, condition))
        return -(reconstruction - x.flatten(1)).norm(dim=1)

    @override
    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the codes `(N, hidden_dim)` of samples `(N, *sample_shape)`."""
        return self.network[0](self.network_input(x, condition))
