"""How many modes of a known mixture a generator has found, and how close its samples are to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gankit.errors import DataError, ShapeError, check_positive


@dataclass(frozen=True)
class ModeCoverage:
    """The result of `mode_coverage`.

    Args:
        captured_modes: The number of modes with at least one high-quality sample.
        modes: The number of all modes.
        high_quality_share: The fraction of the samples that are of high quality, in [0, 1].
        reverse_kl: The reverse KL divergence in nats. It is 0 if every mode gets equally many samples, and NaN if no
            sample is finite.
        samples: The number of samples.
    """

    captured_modes: int
    modes: int
    high_quality_share: float
    reverse_kl: float
    samples: int


def mode_coverage(samples: Tensor, modes: Tensor, standard_deviation: float) -> ModeCoverage:
    """Compare samples with a mixture of round Gaussians (Srivastava et al. 2017; Lin et al. 2018, section 4.1).

    Formula: a sample is of *high quality* if it is within three standard deviations of its nearest mode. A mode is
    *captured* if it is the nearest mode of a high-quality sample. The *reverse KL* divergence is
    `sum_k q_k log(q_k / p_k)`, where `q_k` is the fraction of samples whose nearest mode is `k`, and `p` is uniform.
    It is `log(modes)` if all samples are in one mode.

    Perfect samples in two dimensions are of high quality with probability `1 - exp(-9 / 2)`, 98.89 %, so a larger
    share means that the generator's modes are too narrow. The reverse KL of `n` perfect samples is about
    `(modes - 1) / 2n`.

    Args:
        samples: The samples, `(N, dimensions)`. Those that are not finite count as low quality and belong to no mode.
        modes: The centres of the modes, `(modes, dimensions)`.
        standard_deviation: The standard deviation of each mode, along each axis.

    Raises:
        ShapeError: If the shapes of samples and modes do not match.
        DataError: If there are no samples.
        BadValueError: If the standard deviation is not positive.

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
    # not by a matrix product, in which small distances are lost to rounding
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
