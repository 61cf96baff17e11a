"""How many modes of a known mixture a generator found, and how well it hits them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gankit.errors import DataError, ShapeError, check_positive


@dataclass(frozen=True)
class ModeCoverage:
    """What `mode_coverage` found.

    Args:
        captured_modes: how many modes have a high-quality sample.
        modes: how many there are.
        high_quality_share: the part of all samples that is of high quality, in [0, 1].
        reverse_kl: in nats, 0 where every mode gets equally many samples; NaN where no sample is finite.
        samples: how many samples were looked at.
    """

    captured_modes: int
    modes: int
    high_quality_share: float
    reverse_kl: float
    samples: int


def mode_coverage(samples: Tensor, modes: Tensor, standard_deviation: float) -> ModeCoverage:
    """Hold samples against a mixture of round Gaussians (Srivastava et al. 2017; Lin et al. 2018, section 4.1).

    Formula: a sample is of *high quality* within three standard deviations of its nearest mode. A mode is
    *captured* if it is the nearest mode of a high-quality sample. The *reverse KL* divergence is
    `sum_k q_k log(q_k / p_k)`, where `q` is the share of samples whose nearest mode is `k`, and `p` is uniform:
    `log(modes)` for a generator that knows one mode alone.

    Perfect samples of two dimensions are of high quality with probability `1 - exp(-9 / 2)`, 98.89 %, so more
    than that means modes that are too narrow. The reverse KL of `n` perfect samples is about `(modes - 1) / 2n`.

    Args:
        samples: `(N, dimensions)`; those that are not finite are of low quality, and in no mode.
        modes: the centres, `(modes, dimensions)`.
        standard_deviation: of each mode, along each axis.

    Raises:
        ShapeError: for samples and modes that do not fit each other.
        DataError: for no samples.
        BadValueError: for a standard deviation that is not positive.

    Example:
        >>> modes = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
        >>> found = mode_coverage(torch.tensor([[0.1, 0.0], [0.0, 0.2], [3.0, 0.0], [1.0, 0.0]]), modes, 0.1)
        >>> found.captured_modes, found.modes, found.high_quality_share, round(found.reverse_kl, 4)
        (1, 2, 0.5, 0.1308)
    """
    if samples.ndim != 2 or modes.ndim != 2 or samples.shape[1] != modes.shape[1] or not len(modes):
        raise ShapeError(
            "samples must be (N, dimensions) and modes (modes, dimensions), got "
            f"{tuple(samples.shape)} and {tuple(modes.shape)}"
        )
    if not len(samples):
        raise DataError("samples must be one or more, got none")
    check_positive("standard_deviation", standard_deviation)
    finite = samples[torch.isfinite(samples).all(1)].cpu().double()
    if not len(finite):
        return ModeCoverage(0, len(modes), 0.0, math.nan, len(samples))
    # one by one, as a matrix product would lose the small distances
    distances = torch.cdist(finite, modes.cpu().double(), compute_mode="donot_use_mm_for_euclid_dist")
    distance, nearest = distances.min(1)
    is_good = distance <= 3 * standard_deviation
    shares = torch.bincount(nearest, minlength=len(modes)).double() / len(finite)
    reverse_kl = torch.xlogy(shares, shares * len(modes)).sum()
    return ModeCoverage(
        captured_modes=len(torch.bincount(nearest[is_good]).nonzero()),
        modes=len(modes),
        high_quality_share=int(is_good.sum()) / len(samples),
        reverse_kl=float(reverse_kl),
        samples=len(samples),
    )
