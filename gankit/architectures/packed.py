"""A wrapper around any discriminator: several samples are judged together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gankit.architectures.base import checked_shape
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadArgumentsError, ShapeError, check_count
from gankit.registry import Spec


@DISCRIMINATORS.register("packed")
class PackedDiscriminator(nn.Module):
    """Packing: D judges several samples of one kind at once (Lin et al. 2018, PacGAN, section 2).

    Formula: `packing` samples that follow each other in the batch are joined along their first dimension
    (channels, or coordinates); the discriminator gives each pack one logit, and every sample gets its pack's.
    A generator that has lost modes shows in a pack, where it does not in a single sample.

    Args:
        sample_shape: the shape of one sample.
        packing: how many samples a pack has, m of the paper.
        discriminator: a name in `DISCRIMINATORS`, a `Spec`, or a function of `sample_shape=`; it is built for
            packs.
        device: where the weights are made.
        dtype: the weights' type.

    Attributes:
        discriminator: the discriminator of packs.
        network: its inner network.
        batch_multiple: batches must be a multiple of this, which is `packing`.

    Raises:
        BadValueError: for a packing under 1.
        ShapeError: when called with samples of another shape, or a batch that does not fill its packs.
        BadArgumentsError: when called with a condition: a pack has no one label.

    Example:
        >>> D = PackedDiscriminator((1, 28, 28), packing=2)
        >>> logits = D(torch.rand(4, 1, 28, 28))
        >>> logits.shape, bool(logits[0] == logits[1])
        (torch.Size([4]), True)
    """

    mixes_samples = True

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        packing: int = 2,
        discriminator: str | Spec | Callable[..., nn.Module] = "mlp",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("packing", packing)
        super().__init__()
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        self.batch_multiple: int = packing
        first, *others = self.sample_shape
        given: dict[str, Any] = {"device": device, "dtype": dtype}
        options = {name: value for name, value in given.items() if value is not None}
        self.discriminator: nn.Module = DISCRIMINATORS.build(
            discriminator, sample_shape=(first * packing, *others), **options
        )

    @property
    def network(self) -> nn.Module:
        """The inner network of the discriminator of packs."""
        return self.discriminator.get_submodule("network")

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` in, logits `(N,)` out, equal within a pack."""
        return self._each(self.discriminator(self._packs(x, condition)), x)

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(N, *sample_shape)` in, the features of each sample's pack out: `(N, ...)`."""
        features: Callable[[Tensor], Tensor] | None = getattr(self.discriminator, "features", None)
        if features is None:
            raise BadArgumentsError(
                f"features need a discriminator that offers them, got {type(self.discriminator).__name__}"
            )
        return self._each(features(self._packs(x, condition)), x)

    def _packs(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if condition is not None:
            raise BadArgumentsError("a packed discriminator takes no condition: a pack has no one label")
        if x.shape[1:] != self.sample_shape:
            wanted = ", ".join(["N", *map(str, self.sample_shape)])
            raise ShapeError(f"{type(self).__name__} needs samples of shape ({wanted}), got {tuple(x.shape)}")
        if x.shape[0] % self.batch_multiple:
            raise ShapeError(
                f"{type(self).__name__} needs batches that are a multiple of packing={self.batch_multiple}, got "
                f"{x.shape[0]}"
            )
        # samples that follow each other lie next to each other in memory: joining them is a view
        return x.reshape(-1, self.batch_multiple * self.sample_shape[0], *self.sample_shape[1:])

    def _each(self, of_packs: Tensor, x: Tensor) -> Tensor:
        return of_packs.repeat_interleave(self.batch_multiple, dim=0, output_size=x.shape[0])
