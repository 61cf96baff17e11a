"""Metrics of the quality of samples."""

from gankit.metrics.mixture_modes import ModeCoverage, mode_coverage
from gankit.metrics.scores import Better, Evaluator, Score

__all__ = ["Better", "Evaluator", "ModeCoverage", "Score", "mode_coverage"]
