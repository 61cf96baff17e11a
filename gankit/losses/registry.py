"""`LOSSES`, the registry of adversarial losses."""

from __future__ import annotations

from gankit.protocols import AdversarialLoss
from gankit.registry import Registry

LOSSES = Registry[AdversarialLoss]("loss", group="gankit.losses")
"""Adversarial losses, by name."""
