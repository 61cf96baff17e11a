"""Weight clipping, a constraint on D's weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from gankit.errors import check_count, check_positive
from gankit.regularizers.registry import REGULARIZERS


@REGULARIZERS.register("weight_clipping")
@dataclass(frozen=True)
class WeightClipping:
    """Weight clipping: clamps every parameter of D to [-bound, bound] after its update (Arjovsky et al. 2017, alg. 1).

    A frozen parameter, which D's update leaves alone, is not clamped either.

    Args:
        bound: The paper's c, the largest absolute value of a parameter.
        every: Clip only after every `every`-th step.

    Raises:
        BadValueError: If `bound` is not positive or `every` is less than 1.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = nn.init.constant_(layer.weight, 3.0)
        >>> WeightClipping(bound=0.01).apply(layer)
        >>> layer.weight.abs().max().item() <= 0.0100001
        True
    """

    bound: float = 0.01
    every: int = 1

    def __post_init__(self) -> None:
        check_positive("bound", self.bound)
        check_count("every", self.every)

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Clip the network's parameters in place, except those that are frozen.

        It clips at every call. A training loop of your own calls it after every `every`-th step, as the trainer does.
        """
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.clamp_(-self.bound, self.bound)
