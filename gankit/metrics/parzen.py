"""The log-likelihood of real data under Gaussian kernels around generated samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, check_count, check_positive
from gankit.metrics.pairs import blocks, check_rows, computing_device, finite_rows, squared_distances

BANDWIDTHS = tuple(10 ** (i / 9 - 1) for i in range(10))
"""The bandwidths that are tried: ten values from 0.1 to 1 with a constant ratio."""


@dataclass(frozen=True)
class ParzenLogLikelihood:
    """The result of `parzen_log_likelihood`.

    Args:
        mean: The mean log-likelihood per data point, in nats. It is -inf if no sample is finite.
        standard_error: The standard error of the mean, in nats: the standard deviation over the data points, divided by
            the square root of their number. It does not include the chance in the samples or in the training. It is NaN
            for a single data point.
        bandwidth: The standard deviation of the kernels.
        samples: The number of samples.
        data: The number of data points.
    """

    mean: float
    standard_error: float
    bandwidth: float
    samples: int
    data: int


def parzen_log_likelihood(
    samples: Tensor,
    data: Tensor,
    bandwidth: float | None = None,
    *,
    validation: Tensor | None = None,
    bandwidths: Sequence[float] = BANDWIDTHS,
    batch_size: int = 1000,
) -> ParzenLogLikelihood:
    """Return the mean log-likelihood of data under a Parzen window estimate of the samples' density.

    Formula: the density is the mean of round Gaussians around the `N` samples,
    `p(x) = 1/N sum_i (2 pi s²)^(-d/2) exp(-|x - x_i|² / 2 s²)`, with the bandwidth `s` and `d` numbers per sample. The
    result is the mean of `log p(x)` over the data: higher is better, and there is no upper limit. Goodfellow et al.
    2014, section 5, use 10,000 samples and MNIST's test set with pixels in [0, 1], and choose the bandwidth by
    validation data (Breuleux et al. 2011). Values compare only for the same data, range and number of samples: in a
    range twice as wide, at twice the bandwidth, they are lower by `d log 2`.

    It does not say whether samples look real or whether the model would generalise: centres of clusters of the training
    data score higher than real data (Theis et al. 2016, table 1).

    The computation is in float64, on the device of the samples, or on the CPU if that device has no float64. It takes
    blocks of `batch_size` samples and `batch_size` data points, so its memory does not grow with their numbers. No
    gradient is recorded.

    Args:
        samples: The generated samples, `(N, *sample_shape)`. One that is not finite counts among the `N` but has no
            density anywhere.
        data: The data points, `(M, *sample_shape)`, such as the test set.
        bandwidth: The standard deviation of the kernels. None chooses the one of `bandwidths` under which `validation`
            has the highest log-likelihood.
        validation: The data points by which the bandwidth is chosen. They should be neither test data nor the data that
            the generator was trained on.
        bandwidths: The bandwidths to choose from. If the result has the first or the last, try wider limits.
        batch_size: The number of samples, and of data points, that are compared at a time.

    Raises:
        BadArgumentsError: If neither or both of `bandwidth` and `validation` are given, or a tensor is not of a
            floating-point type.
        BadValueError: If a bandwidth or the batch size is not positive.
        ShapeError: If the shapes of the samples and the data differ.
        DataError: If there are no samples or no data points, or the data are not finite.

    Example:
        >>> one = parzen_log_likelihood(torch.zeros(1, 2), torch.zeros(4, 2), bandwidth=1.0)
        >>> round(one.mean, 4), round(-math.log(2 * math.pi), 4)
        (-1.8379, -1.8379)
        >>> samples, data, validation = torch.randn(3, 200, 2)
        >>> round(parzen_log_likelihood(samples, data, validation=validation).bandwidth, 3) in (0.359, 0.464, 0.599)
        True
    """
    check_rows("samples", samples)
    check_rows("data", data, like=samples, finite=True)
    check_count("batch_size", batch_size)
    if (bandwidth is None) == (validation is None):
        given = "neither" if bandwidth is None else "both"
        raise BadArgumentsError(f"one of bandwidth and validation must be given, got {given}")
    with torch.no_grad():
        if validation is not None:
            check_rows("validation", validation, like=samples, finite=True)
            if not bandwidths:
                raise BadArgumentsError("bandwidths must be one or more numbers, got none")
            for one in bandwidths:
                check_positive("bandwidths", one)
            bandwidth = bandwidths[int(_log_densities(samples, validation, bandwidths, batch_size).mean(1).argmax())]
        assert bandwidth is not None
        check_positive("bandwidth", bandwidth)
        logs = _log_densities(samples, data, [bandwidth], batch_size)[0]
        # a standard deviation of one value would be a warning
        deviation = float(logs.std()) if len(logs) > 1 else math.nan
        return ParzenLogLikelihood(
            mean=float(logs.mean()),
            standard_error=deviation / math.sqrt(len(logs)),
            bandwidth=bandwidth,
            samples=len(samples),
            data=len(data),
        )


def _log_densities(samples: Tensor, data: Tensor, bandwidths: Sequence[float], batch_size: int) -> Tensor:
    """Return the logarithm of the density at each data point for each bandwidth, `(bandwidths, M)`, in float64."""
    device = computing_device(samples)
    widths = torch.tensor(bandwidths, dtype=torch.float64, device=device)
    scales = -0.5 / widths.square()
    finite = samples[finite_rows(samples)]
    found: list[Tensor] = []
    for points in blocks(data, batch_size, device):
        sums = torch.full((len(widths), len(points)), -math.inf, dtype=torch.float64, device=device)
        for kernels in blocks(finite, batch_size, device):
            distances = squared_distances(points, kernels)
            here = torch.stack([torch.logsumexp(distances * scale, 1) for scale in scales])
            sums = torch.logaddexp(sums, here)
        found.append(sums)
    dimensions = samples[0].numel()
    log_norms = math.log(len(samples)) + dimensions / 2 * (2 * math.pi * widths.square()).log()
    return torch.cat(found, 1) - log_norms[:, None]
