"""How the figures of a training are printed."""

from __future__ import annotations

from collections.abc import Mapping


def figures_in_words(figures: Mapping[str, float | None]) -> str:
    """Return named figures in one line, and those about modes in words.

    Example:
        >>> figures_in_words({"generator_loss": 0.5, "real_score": None})
        'generator loss 0.500, real score –'
    """
    if "captured_modes" in figures:
        share, divergence = figures["high_quality_share"] or 0.0, figures["reverse_kl"]
        reverse_kl = "not defined" if divergence is None else f"{divergence:.3f}"
        return (
            f"{figures['captured_modes']} of {figures['modes']}, {share:.1%} of high quality, reverse KL {reverse_kl}"
        )
    return ", ".join(f"{n.replace('_', ' ')} {'–' if v is None else f'{v:.3f}'}" for n, v in figures.items())
