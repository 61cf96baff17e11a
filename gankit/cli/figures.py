"""How the figures of a training are printed."""

from __future__ import annotations

from collections.abc import Mapping


def figures_in_words(figures: Mapping[str, float | None]) -> str:
    """Return named figures in one line.

    Example:
        >>> figures_in_words({"generator_loss": 0.5, "real_score": None})
        'generator loss 0.500, real score –'
    """
    return ", ".join(f"{n.replace('_', ' ')} {'–' if v is None else f'{v:.3f}'}" for n, v in figures.items())
