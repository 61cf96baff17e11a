"""`feature_values`: every metric of two sets of features, for evaluators that differ only in their features."""

from __future__ import annotations

from torch import Tensor

from gankit.metrics.distances import frechet_distance, kernel_distance
from gankit.metrics.manifolds import coverage, density, precision, recall
from gankit.metrics.scores import Better

FEATURE_METRICS: dict[str, Better] = {
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "recall": "higher",
    "coverage": "higher",
    "precision": "higher",
    "density": "higher",
}
"""The metrics of `feature_values`, and whether a higher or a lower value of each is better."""
_MOST_IN_SUBSET = 2000


def feature_values(samples: Tensor, real: Tensor) -> dict[str, float]:
    """Return the value of each of `FEATURE_METRICS` for two sets of features.

    An evaluator calls it with the features of the generated samples, and once with those of real samples in their
    place. It puts the name of the features before the names: `mnist_recall` and `inception_recall` do not compare.

    The kernel distance is the mean over as many random subsets of 2,000 as there are in the smaller set, or over
    one that is smaller. The other metrics have the defaults of the functions of the same names.

    Args:
        samples: The features of the generated samples, `(N, d)`. If one is not finite, the distances are NaN.
        real: The features of real samples, `(M, d)`.

    Raises:
        BadArgumentsError: If the features are not of a floating-point type.
        ShapeError: If they are not `(N, d)` and `(M, d)`.
        DataError: If there are fewer than six of either, or real ones are not finite.

    Example:
        >>> import torch
        >>> real, samples = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(0))
        >>> values = feature_values(samples + 3, real)
        >>> list(values)[:3], values["recall"] < feature_values(samples, real)["recall"]
        (['frechet_distance', 'kernel_distance', 'recall'], True)
    """
    smaller = min(len(samples), len(real))
    size = min(smaller, _MOST_IN_SUBSET)
    subsets = smaller // max(size, 1)
    return {
        "frechet_distance": frechet_distance(samples, real),
        "kernel_distance": kernel_distance(samples, real, subsets=subsets, subset_size=size).mean,
        "recall": recall(samples, real),
        "coverage": coverage(samples, real),
        "precision": precision(samples, real),
        "density": density(samples, real),
    }
