"""A wrapper around any discriminator that judges several samples together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gankit.answers import Answer, Features
from gankit.architectures.base import check_samples, checked_shape
from gankit.architectures.block_stacks import given_options
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadArgumentsError, ShapeError, check_count
from gankit.protocols import features_of
from gankit.registry import Spec


@DISCRIMINATORS.register("packed")
class PackedDiscriminator(nn.Module):
    """Packing: D judges several samples, all real or all fake, at once (Lin et al. 2018, PacGAN, section 2).

    Formula: `packing` consecutive samples of the batch are concatenated along their first dimension (channels, or
    coordinates). The discriminator gives each pack one logit, which is the logit of every sample in it. In a pack D
    can see that a generator has lost modes; in a single sample it cannot.

    Args:
        sample_shape: The shape of one sample.
        packing: The number of samples in a pack, called m in the paper.
        discriminator: A name in `DISCRIMINATORS`, a `Spec`, or a function of `sample_shape=`; it is built for packs.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        discriminator: The discriminator of packs.
        network: The inner network of that discriminator.
        batch_multiple: The number of which every batch size must be a multiple; it equals `packing`.

    Raises:
        BadValueError: If `packing` is less than 1.
        ShapeError: If it is called with samples of another shape, or with a batch that does not fill its packs.
        BadArgumentsError: If it is called with a condition, because the samples of a pack may have different labels.

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
        self.discriminator: nn.Module = DISCRIMINATORS.build(
            discriminator, sample_shape=(first * packing, *others), **given_options(device, dtype)
        )

    @property
    def network(self) -> nn.Module:
        """The inner network of the discriminator of packs."""
        return self.discriminator.get_submodule("network")

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | Answer:
        """Return the logits, such as `(N,)`, of samples `(N, *sample_shape)`; they are equal within a pack."""
        return self._repeat_per_sample(self.discriminator(self._packs(x, condition)), x)

    def features(self, x: Tensor, condition: Tensor | None = None) -> Features:
        """Return the features of each sample's pack, `(N, ...)`, for samples `(N, *sample_shape)`."""
        method = features_of(self.discriminator)
        packs = self._packs(x, condition)
        if method is None:
            answer = self.discriminator(packs)
            found = answer.features if isinstance(answer, Answer) else None
        else:
            found = method(packs, None)
        if found is None:
            raise BadArgumentsError(
                "features need a discriminator with a method features, or with features in its Answer, got "
                f"{type(self.discriminator).__name__}"
            )
        return self._repeat_per_sample(found, x)

    def _packs(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if condition is not None:
            raise BadArgumentsError(
                "a packed discriminator takes no condition, because the samples of a pack may have different labels"
            )
        check_samples(self, x, self.sample_shape)
        if x.shape[0] % self.batch_multiple:
            raise ShapeError(
                f"{type(self).__name__} needs batch sizes that are a multiple of packing={self.batch_multiple}, got "
                f"{x.shape[0]}"
            )
        # consecutive samples are adjacent in memory, so that joining them copies nothing
        return x.reshape(-1, self.batch_multiple * self.sample_shape[0], *self.sample_shape[1:])

    def _repeat_per_sample(self, pack_values: Any, x: Tensor) -> Any:
        return tree_map_only(
            Tensor, lambda one: one.repeat_interleave(self.batch_multiple, dim=0, output_size=x.shape[0]), pack_values
        )
