"""Metrics: how good samples are, in numbers."""

from gankit.metrics.mixture_modes import ModeCoverage, mode_coverage

__all__ = ["ModeCoverage", "mode_coverage"]
