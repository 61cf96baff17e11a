"""`REGULARIZERS`, the registry of penalties and constraints."""

from __future__ import annotations

from gankit.protocols import Constraint, Regularizer
from gankit.registry import Registry

REGULARIZERS = Registry[Regularizer | Constraint]("regularizer", group="gankit.regularizers")
"""Penalties and constraints, by name."""
