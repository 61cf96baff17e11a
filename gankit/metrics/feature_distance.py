"""`FeatureDistance`: the scores of generated images in the features of any network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gankit.errors import BadValueError, DataError, NonFiniteDataError, ShapeError, check_count, check_seed
from gankit.metrics.feature_scores import FEATURE_METRICS, feature_values
from gankit.metrics.features import Extractor, Images, extract_features
from gankit.metrics.pairs import finite_rows
from gankit.metrics.scores import Score
from gankit.seeds import stream_seed

_FEWEST = 6  # a ball of density and coverage reaches the fifth nearest other feature


class FeatureDistance:
    """An `Evaluator` that scores generated images in the features of any network.

    The scores are the Fréchet and kernel distance, recall, coverage, precision and density of `feature_values`. Beside
    each value stands that of as many real images in the place of the generated ones. Features of real images are
    computed once, on construction. Scores compare only if the extractor, the real images and the number of samples are
    the same.

    Args:
        extractor: A network or a function from images `(N, C, H, W)` to features `(N, d)`: a frozen network of your
            own, one of torchvision or timm without its last layer, or `inception()`. See `extract_features` for how it
            is called.
        real: The real images, `(M, C, H, W)`, or batches of them, which are read to their end.
        held_out: Other real images, which take the place of the generated ones. None splits `real` at random.
        samples: The number of generated images that are scored, and of real images in their place, which are drawn at
            random. None for all of `held_out`, or one half of `real`.
        name: What the names of the scores begin with. It should say which features they are of, such as `inception`.
        sample_range: The lowest and the highest value of real and generated images, which are mapped to [0, 1] for the
            extractor. None passes them on as they are. Bytes are always mapped to [0, 1].
        batch_size: The number of images that the extractor gets at a time, at most.
        seed: The seed by which real images are split and drawn.

    Raises:
        BadArgumentsError: If the extractor is no function, or an argument has the wrong type.
        BadValueError: If a number or the name is not allowed.
        ShapeError: If the extractor does not return `(N, d)`, one row per image.
        DataError: If there are fewer than six real images of either kind, or fewer than `samples`.
        NonFiniteDataError: If real images or their features are not finite.

    Example:
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        >>> evaluate = FeatureDistance(network, torch.rand(60, 1, 4, 4), name="linear")
        >>> evaluate.samples
        30
        >>> scores = evaluate(torch.rand(30, 1, 4, 4) / 2)
        >>> list(scores)[:2]
        ['linear_frechet_distance', 'linear_kernel_distance']
        >>> scores["linear_frechet_distance"].value > scores["linear_frechet_distance"].real
        True
    """

    def __init__(
        self,
        extractor: Extractor,
        real: Images,
        held_out: Images | None = None,
        *,
        samples: int | None = None,
        name: str = "feature",
        sample_range: tuple[float, float] | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        check_seed(seed)
        if samples is not None:
            check_count("samples", samples)
        if not name.isidentifier():
            raise BadValueError(f"name must consist of letters, digits and underscores, got {name!r}")
        self._extractor, self._name = extractor, name
        self._sample_range, self._batch_size = sample_range, batch_size
        features = self._features(real)
        others = features if held_out is None else self._features(held_out).to(features.device)
        if samples is None:
            samples = len(others) if held_out is not None else len(others) // 2
        if samples > len(others):
            raise DataError(f"samples must be at most {len(others)}, the number of real images for them, got {samples}")
        random = torch.Generator().manual_seed(stream_seed(seed, "evaluation"))
        order = torch.randperm(len(others), generator=random).to(others.device)
        self._samples, in_place = samples, others[order[:samples]]
        self._real = features if held_out is not None else features[order[samples:]]
        for what, rows in (("real images", self._real), ("real images in the place of samples", in_place)):
            if len(rows) < _FEWEST:
                raise DataError(f"{what} must be {_FEWEST} or more, got {len(rows)}")
            if bad := len(rows) - int(finite_rows(rows).sum()):
                raise NonFiniteDataError(f"{what} must have finite features, got NaN or infinity for {bad} of them")
        self._real_values = feature_values(in_place, self._real)

    @property
    def samples(self) -> int:
        """The number of generated images that are scored."""
        return self._samples

    def __call__(self, samples: Tensor) -> dict[str, Score]:
        """Return the scores by the names of their metrics. If a sample is NaN or infinite, every value is NaN.

        Args:
            samples: The generated images, `(self.samples, C, H, W)`, on any device.

        Raises:
            ShapeError: For another number of images, or if they do not have as many features as the real ones.
        """
        if len(samples) != self.samples:
            raise ShapeError(
                f"samples must be {self.samples}, as many as the real images in their place, got {len(samples)}"
            )
        features = self._features(samples).to(self._real.device)
        if features.shape[1] != self._real.shape[1]:
            raise ShapeError(
                f"samples must have {self._real.shape[1]} features like the real images, got {features.shape[1]}"
            )
        values: dict[str, float] = {}
        if finite_rows(features).all():
            values = feature_values(features, self._real)
        return {
            f"{self._name}_{metric}": Score(values.get(metric, math.nan), real, FEATURE_METRICS[metric], self.samples)
            for metric, real in self._real_values.items()
        }

    def _features(self, images: Images) -> Tensor:
        return extract_features(self._extractor, images, sample_range=self._sample_range, batch_size=self._batch_size)
