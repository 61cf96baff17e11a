"""An adversarial term for a training loop of your own: `Adversary`, and what balances it with the other losses."""

from gankit.adversary.adversary import Adversary
from gankit.adversary.balancing import Balancer, balanced_weight

__all__ = ["Adversary", "Balancer", "balanced_weight"]
