"""Distances between two sets of features: the Fréchet distance and the kernel distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gankit.errors import DataError, check_count, check_seed
from gankit.metrics.pairs import blocks, check_features, computing_device, finite_rows

_LINALG: Any = torch.linalg  # whose functions torch does not annotate


def frechet_distance(samples: Tensor, real: Tensor) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6).

    Formula: `|m_1 - m_2|² + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))` with the means `m` and the covariances `C` (divided by
    `N - 1`). It is in [0, inf), 0 for equal means and covariances, and lower is better. With the features of the
    Inception network it is called FID.

    It is biased upwards by the number of samples: few samples have a larger distance than many of the same
    distribution. So state the number, compare values of equal numbers only, and look at the distance of as many real
    samples in place of the generated ones.

    The computation is in float64, on the device of the samples, or on the CPU if that device has no float64. The trace
    of the root is the sum of the singular values of `A_1 A_2^T`, where `A^T A = C`. No root of a matrix is taken, so
    covariances may be singular, as those of fewer samples than features are. Only a block of either set is held in
    float64 at a time. No gradient is recorded.

    Args:
        samples: The features of the generated samples, `(N, d)`, two or more. If one is not finite, the result is
            NaN.
        real: The features of real samples, `(M, d)`, two or more.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If there are fewer than two samples, or real features are not finite.

    Example:
        >>> real = torch.tensor([[0.0], [2.0]])
        >>> round(frechet_distance(real + 3, real), 6), round(frechet_distance(2 * real, real), 6)
        (9.0, 3.0)
    """
    check_features(samples, real, 2)
    if not finite_rows(samples).all():
        return math.nan
    with torch.no_grad():
        device = computing_device(samples)
        (first_mean, first), (second_mean, second) = (_factor(one, device) for one in (samples, real))
        product = first @ second.T
        if not torch.isfinite(product).all():
            return math.nan
        variances = first.square().sum() + second.square().sum()
        root_trace: Tensor = _LINALG.svdvals(product).sum()
        distance = (first_mean - second_mean).square().sum() + variances - 2 * root_trace
        return max(0.0, float(distance))  # rounding may leave a small number below zero


def _factor(features: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean, and a matrix `A` of at most d rows with `A^T A` equal to the covariance, from blocks."""
    count, dimensions = features.shape
    size = max(1000, dimensions)
    mean = sum((block.sum(0) / count for block in blocks(features, size, device)), start=torch.zeros((), device=device))
    factor = torch.zeros(0, dimensions, dtype=torch.float64, device=device)
    for block in blocks(features, size, device):
        factor = _LINALG.qr(torch.cat([factor, block - mean]), mode="r").R
    return mean, factor / math.sqrt(count - 1)


@dataclass(frozen=True)
class KernelDistance:
    """The result of `kernel_distance`.

    Args:
        mean: The mean over the subsets. It may be slightly negative, because each subset's estimate is unbiased.
        standard_deviation: The standard deviation over the subsets. The subsets overlap, so it does not tell how far
            the mean is from that of other samples.
        subsets: The number of subsets.
        subset_size: The number of samples in each.
    """

    mean: float
    standard_deviation: float
    subsets: int
    subset_size: int


def kernel_distance(
    samples: Tensor, real: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Return the squared maximum mean discrepancy of two sets of features (Bińkowski et al. 2018).

    Formula: `E k(x, x') + E k(y, y') - 2 E k(x, y)` with the cubic kernel `k(x, y) = (x·y / d + 1)³`, where pairs `x,
    x'` consist of two different samples. The estimate is unbiased whatever the number of samples, unlike the Fréchet
    distance. Its expectation is in [0, inf), 0 for equal distributions, and lower is better. With the features of the
    Inception network it is called KID; some papers print 1,000 times the value.

    It is computed for random subsets of both sets, drawn without replacement by a generator of its own. The computation
    is in float64, on the device of the samples, or on the CPU if that device has no float64. No gradient is recorded.

    Args:
        samples: The features of the generated samples, `(N, d)`. If one is not finite, the results are NaN.
        real: The features of real samples, `(M, d)`.
        subsets: The number of subsets.
        subset_size: The number of samples in each subset, at least 2 and at most `N` and `M`.
        seed: The seed by which subsets are drawn.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type, or a number is not an integer.
        BadValueError: If the number of subsets is not positive.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If the subsets are too small or too large, or real features are not finite.

    Example:
        >>> real = torch.tensor([[1.0], [2.0], [0.0]])
        >>> found = kernel_distance(real + 1, real, subsets=5, subset_size=3)
        >>> round(found.mean, 4), round(found.standard_deviation, 4)
        (21.6667, 0.0)
    """
    check_features(samples, real)
    check_count("subsets", subsets)
    check_count("subset_size", subset_size)
    check_seed(seed)
    largest = min(len(samples), len(real))
    if not 2 <= subset_size <= largest:
        raise DataError(
            f"subset_size must be from 2 to {largest}, the smaller of the numbers of samples, got {subset_size}"
        )
    if not finite_rows(samples).all():
        return KernelDistance(math.nan, math.nan, subsets, subset_size)
    random = torch.Generator().manual_seed(seed)
    device = computing_device(samples)

    def drawn(features: Tensor) -> Tensor:
        chosen = torch.randperm(len(features), generator=random)[:subset_size]
        return features[chosen.to(features.device)].to(device).double()

    with torch.no_grad():
        found = torch.stack([_unbiased_discrepancy(drawn(samples), drawn(real)) for _ in range(subsets)])
        return KernelDistance(float(found.mean()), float(found.std(correction=0)), subsets, subset_size)


def _unbiased_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy of as many samples of each kind."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_pairs(x: Tensor) -> Tensor:
        values = kernel(x, x)
        return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

    return mean_of_pairs(first) + mean_of_pairs(second) - 2 * kernel(first, second).mean()
