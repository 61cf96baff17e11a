"""An adversarial term for a training loop of your own: `Adversary`, which supplies both halves."""

from gankit.adversary.adversary import Adversary

__all__ = ["Adversary"]
