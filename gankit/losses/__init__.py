"""Losses: what discriminator and generator minimise, on logits, by name in `LOSSES`.

Every loss is elementwise: `(..., N)` in, `(..., N)` out; whoever trains reduces.
"""

from gankit.losses.goodfellow import Minimax, NonSaturating
from gankit.losses.registry import LOSSES
from gankit.losses.schedule import LossSchedule

__all__ = ["LOSSES", "LossSchedule", "Minimax", "NonSaturating"]
