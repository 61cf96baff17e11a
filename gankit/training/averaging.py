"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gankit.errors import BadValueError


class WeightAverage:
    """An exponential moving average of a network (Polyak & Juditsky 1992; Yazici et al. 2019 for GANs).

    Formula: `average <- decay * average + (1 - decay) * weights`, the first update copying the weights. The
    floating-point buffers (BatchNorm's statistics) are averaged too, the others copied. The half-life of a
    weight is `log 0.5 / log decay` steps: 693 for 0.999.

    Args:
        network: what is averaged.
        decay: in [0, 1), per update.

    Attributes:
        network: the averaged network, in eval mode, requiring no gradient; its `state_dict` has the keys of
            the original.
        updates_done: how often `update` was called.

    Raises:
        BadValueError: for a decay outside [0, 1).

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> average = WeightAverage(layer, decay=0.5)
        >>> for value in (0.0, 1.0):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     average.update()
        >>> average.network.weight.item()
        0.5
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise BadValueError(f"averaging_decay must be in [0, 1), got {decay!r}")
        self.decay = decay
        self.updates_done: int = 0
        self.network: nn.Module = copy.deepcopy(network).eval().requires_grad_(False)
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights into the average."""
        # the first update copies, so that the random initial weights leave no trace
        keep = self.decay if self.updates_done else 0.0
        targets, sources = map(list, zip(*self._averaged, strict=True))
        torch._foreach_lerp_(targets, sources, 1 - keep)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        for target, source in self._copied:
            target.copy_(source)
        self.updates_done += 1


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
