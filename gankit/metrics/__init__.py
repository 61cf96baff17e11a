"""Metrics of the quality of samples."""

from gankit.metrics.mixture_modes import ModeCoverage, mode_coverage

__all__ = ["ModeCoverage", "mode_coverage"]
