"""The discriminator of energy-based GANs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator
from gankit.architectures.block_stacks import BlockRef, build_blocks, layer_widths
from gankit.architectures.registry import DISCRIMINATORS


@DISCRIMINATORS.register("autoencoder")
class AutoencoderDiscriminator(Discriminator):
    """Autoencoder: its logit is minus its reconstruction error, minus an energy (Zhao et al. 2016, section 2.3).

    Formula: `logit = -|Dec(Enc(x)) - x|`, the Euclidean norm over the sample; 0 for a perfect reconstruction.
    The encoder's blocks halve their width down to `hidden_dim`, the decoder's double it, a linear layer gives
    the sample back. The loss that fits it is `energy_based`.

    Args:
        sample_shape: the shape of one sample.
        hidden_dim: the width of the code.
        depth: the number of the encoder's blocks.
        widths: the widths of the encoder's blocks, the code's last, instead of `hidden_dim` and `depth`.
        block: a name in `BLOCKS`, a `Spec`, or a function of two widths.
        num_classes: with it, `forward(x, labels)` is conditional: the one-hot code joins what is encoded.
        device: where the weights are made.
        dtype: the weights' type.

    Attributes:
        network: the inner network, from flat samples (with the label's code) to flat reconstructions.

    Raises:
        BadValueError: for a size that is not positive.
        ShapeError: when called with samples of another shape.

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
        """Flatten the samples and append the label's code."""
        flat = x.flatten(1)
        return flat if code is None else torch.cat([flat, code], dim=1)

    @override
    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` and labels `(N,)` in, logits `(N,)` out, of 0 or less."""
        reconstruction = self.network(self.prepared(x, condition))
        return -(reconstruction - x.flatten(1)).norm(dim=1)

    @override
    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` in, the codes `(N, hidden_dim)` out."""
        return self.network[0](self.prepared(x, condition))
