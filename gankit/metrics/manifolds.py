"""Precision, recall, density and coverage: which samples are near which, by balls around features.

The *ball* of a feature has its centre there, and its radius is the distance to the `neighbors`-th nearest other feature
of the same set. A set of balls stands for the region where the features of one distribution are found.

All four are computed in float64, on the device of the samples, or on the CPU if that device has no float64, from blocks
of `batch_size` features, so that their memory does not grow with the square of the numbers of features. No gradient is
recorded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gankit.errors import check_count
from gankit.metrics.pairs import blocks, check_features, check_rows, computing_device, finite_rows, squared_distances


def precision(samples: Tensor, real: Tensor, *, neighbors: int = 3, batch_size: int = 1000) -> float:
    """Return the share of samples that are in the ball of a real feature (Kynkäänniemi et al. 2019, eq. 2).

    It is in [0, 1], higher is better: the samples are like real ones. It says nothing about how many kinds of real ones
    there are among them. It depends on the numbers of features, and one real outlier has a large ball; `density` counts
    the balls, so an outlier matters less.

    Args:
        samples: The features of the generated samples, `(N, d)`. One that is not finite is in no ball.
        real: The features of real samples, `(M, d)`.
        neighbors: The number of nearest other features that a ball reaches, below `M`.
        batch_size: The number of features of each set that are compared at a time.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type, or a number is not an integer.
        BadValueError: If a number is not positive.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If there are no samples, too few real features, or some that are not finite.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0]])
        >>> precision(torch.tensor([[0.5], [1.5], [5.0], [20.0]]), real, neighbors=1)
        0.5
    """
    balls, _ = _memberships(samples, real, neighbors, batch_size)
    return int((balls > 0).sum()) / len(samples)


def recall(samples: Tensor, real: Tensor, *, neighbors: int = 3, batch_size: int = 1000) -> float:
    """Return the share of real features that are in the ball of a sample (Kynkäänniemi et al. 2019, eq. 2).

    It is in [0, 1], higher is better: the samples vary as real ones do. It is `precision` with the sets exchanged. Poor
    samples that are far apart have large balls, so a few of them raise it; `coverage` uses the balls of real features.

    Args:
        samples: The features of the generated samples, `(N, d)`. Those that are not finite have no ball, and if there
            are not more than `neighbors` others, the recall is 0.
        real: The features of real samples, `(M, d)`.
        neighbors: The number of nearest other features that a ball reaches, below `N`.
        batch_size: The number of features of each set that are compared at a time.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type, or a number is not an integer.
        BadValueError: If a number is not positive.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If there are too few samples, no real features, or some that are not finite.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> recall(torch.tensor([[0.0], [1.1]]), real, neighbors=1)
        0.75
    """
    check_features(samples, real)
    _check_neighbors("samples", samples, neighbors)
    finite = samples[finite_rows(samples)]
    if len(finite) <= neighbors:
        return 0.0
    balls, _ = _memberships(real, finite, neighbors, batch_size)
    return int((balls > 0).sum()) / len(real)


def density(samples: Tensor, real: Tensor, *, neighbors: int = 5, batch_size: int = 1000) -> float:
    """Return the number of real balls that a sample is in, relative to that expected (Naeem et al. 2020, section 3).

    Formula: `1 / (neighbors N) sum_j sum_i 1[sample j is in the ball of real feature i]`. It is in [0, M / neighbors],
    and higher is better. Its expectation is 1 for samples of the real distribution; it is above 1 if they are where
    real ones are densest.

    Balls are closed here, as in `precision`, and open in the authors' code. This makes a difference only if samples are
    exact copies of real ones: a copy of the real set has the density `(neighbors + 1) / neighbors`, not 1.

    Args:
        samples: The features of the generated samples, `(N, d)`. One that is not finite is in no ball.
        real: The features of real samples, `(M, d)`.
        neighbors: The number of nearest other features that a ball reaches, below `M`.
        batch_size: The number of features of each set that are compared at a time.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type, or a number is not an integer.
        BadValueError: If a number is not positive.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If there are no samples, too few real features, or some that are not finite.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0]])
        >>> density(torch.tensor([[0.5], [1.5], [5.0], [20.0]]), real, neighbors=1)
        1.0
    """
    balls, _ = _memberships(samples, real, neighbors, batch_size)
    return int(balls.sum()) / (neighbors * len(samples))


def coverage(samples: Tensor, real: Tensor, *, neighbors: int = 5, batch_size: int = 1000) -> float:
    """Return the share of real features whose ball contains a sample (Naeem et al. 2020, section 3).

    It is in [0, 1], higher is better: samples are found wherever real ones are. For `N = M` samples of the real
    distribution, its expectation is about `1 - 2^(-neighbors)`; it falls with fewer samples.

    Args:
        samples: The features of the generated samples, `(N, d)`. One that is not finite is in no ball.
        real: The features of real samples, `(M, d)`.
        neighbors: The number of nearest other features that a ball reaches, below `M`.
        batch_size: The number of features of each set that are compared at a time.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type, or a number is not an integer.
        BadValueError: If a number is not positive.
        ShapeError: If the features are not `(N, d)` and `(M, d)`.
        DataError: If there are no samples, too few real features, or some that are not finite.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0]])
        >>> coverage(torch.tensor([[0.5], [1.5], [5.0], [20.0]]), real, neighbors=1)
        0.6
    """
    _, members = _memberships(samples, real, neighbors, batch_size)
    return int((members > 0).sum()) / len(real)


def _check_neighbors(name: str, centres: Tensor, neighbors: int) -> None:
    check_count("neighbors", neighbors)
    check_rows(name, centres, neighbors + 1)


@torch.no_grad()
def _memberships(points: Tensor, centres: Tensor, neighbors: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return the number of balls that each point is in, `(N,)`, and of points in the ball of each centre, `(M,)`."""
    check_features(points, centres)
    _check_neighbors("real", centres, neighbors)
    check_count("batch_size", batch_size)
    device = computing_device(points)
    points = points[finite_rows(points)]
    balls = [torch.zeros(0, dtype=torch.long, device=device)]
    members = torch.zeros(len(centres), dtype=torch.long, device=device)
    radii = _squared_radii(centres, neighbors, batch_size, device)
    for rows in blocks(points, batch_size, device):
        inside = [
            squared_distances(rows, columns) <= radii[i * batch_size : (i + 1) * batch_size]
            for i, columns in enumerate(blocks(centres, batch_size, device))
        ]
        balls.append(sum((one.sum(1) for one in inside), start=balls[0].new_zeros(len(rows))))
        members += torch.cat([one.sum(0) for one in inside])
    return torch.cat(balls), members


def _squared_radii(centres: Tensor, neighbors: int, batch_size: int, device: torch.device) -> Tensor:
    """Return the squared distance of each centre to its `neighbors`-th nearest other one, `(M,)`."""
    radii: list[Tensor] = []
    for rows in blocks(centres, batch_size, device):
        # one more, because the nearest is the centre itself
        nearest = torch.full((len(rows), neighbors + 1), math.inf, dtype=torch.float64, device=device)
        for columns in blocks(centres, batch_size, device):
            candidates = torch.cat([nearest, squared_distances(rows, columns)], 1)
            nearest = candidates.topk(neighbors + 1, largest=False).values
        radii.append(nearest.amax(1))
    # a copy of the farthest neighbour is in the ball although distances are rounded
    return torch.cat(radii) * (1 + 1e-9)
