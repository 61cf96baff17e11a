"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gankit.protocols import State
from gankit.training.step.options import check_averaging_decay


class WeightAverage:
    """An exponential moving average of a network's weights (Polyak & Juditsky 1992; Yazici et al. 2019 for GANs).

    Formula: `average <- decay * average + (1 - decay) * weights`. The first update copies the weights. Floating-point
    buffers, such as BatchNorm's statistics, are averaged too, and the other buffers are copied. The half-life of a
    weight is `log 0.5 / log decay` updates: 693 for a decay of 0.999.

    Args:
        network: The network whose weights are averaged.
        decay: The decay per update, in [0, 1).

    Attributes:
        network: The averaged network, in eval mode, with parameters that require no gradient. Its `state_dict` has the
            keys of the original.
        updates_done: The number of updates that were counted.

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
        self.updates_done: int = 0
        self.network: nn.Module = copy.deepcopy(network).eval().requires_grad_(False)
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        devices = {target.device for target, _ in self._averaged if target.is_cuda}
        # on a GPU the weight of the new values lies there too, so that a captured update reads its present value
        self._device_weight = torch.zeros((), device=devices.pop()) if devices else None
        self.decay = decay

    @property
    def decay(self) -> float:
        """The share of the average that an update keeps. It may be changed between two updates."""
        return self._decay

    @decay.setter
    def decay(self, decay: float) -> None:
        check_averaging_decay(decay)
        self._decay = decay
        if self._device_weight is not None:
            self._device_weight.fill_(1 - decay)

    @property
    def is_first(self) -> bool:
        """Whether the next update is the first one, which copies the weights."""
        return not self.updates_done

    def update(self) -> None:
        """Update the average with the network's present weights, and count the update."""
        self.move()
        self.count()

    def count(self) -> None:
        """Count an update that `move`, or the replay of a captured step that contains it, has made."""
        self.updates_done += 1

    @torch.no_grad()
    def move(self) -> None:
        """Make an update on the device without counting it."""
        targets, sources = map(list, zip(*self._averaged, strict=True))
        if self.is_first:  # the first update copies, so that the random initial weights leave no trace
            _foreach_lerp(targets, sources, 1.0)
        elif self._device_weight is None:
            _foreach_lerp(targets, sources, 1 - self.decay)
        else:
            move_towards(targets, sources, self._device_weight)
        for target, source in self._copied:
            target.copy_(source)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return {"network": self.network.state_dict(), "updates_done": self.updates_done}

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.updates_done = state["updates_done"]


@torch.no_grad()
def move_towards(targets: list[Tensor], sources: list[Tensor], weight: Tensor) -> None:
    """Move each target towards its source: `target + weight * (source - target)`, with a weight on the device.

    Example:
        >>> target = torch.zeros(2)
        >>> move_towards([target], [torch.ones(2)], torch.tensor(0.25))
        >>> target
        tensor([0.2500, 0.2500])
    """
    steps = torch._foreach_sub(sources, targets)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    torch._foreach_mul_(steps, weight)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    torch._foreach_add_(targets, steps)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _foreach_lerp(targets: list[Tensor], sources: list[Tensor], weight: float) -> None:
    torch._foreach_lerp_(targets, sources, weight)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
