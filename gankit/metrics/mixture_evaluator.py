"""`MixtureEvaluator`: scores samples by the modes of a known mixture."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit.data import Mixture
from gankit.errors import check_count
from gankit.metrics.mixture_modes import mode_coverage
from gankit.metrics.scores import Better, Score
from gankit.seeds import stream_seed

_BETTER: dict[str, Better] = {"captured_modes": "higher", "high_quality_share": "higher", "reverse_kl": "lower"}


class MixtureEvaluator:
    """Score samples by the modes of a mixture that they have found; see `mode_coverage`.

    The scores are `captured_modes`, `high_quality_share` and `reverse_kl`. Real samples are drawn from the mixture with
    a fixed seed.

    Args:
        mixture: The mixture.
        samples: The number of samples; 2,500 as in Lin et al. 2018.

    Raises:
        BadValueError: If `samples` is less than 1.

    Example:
        >>> from gankit.data import ring
        >>> evaluator = MixtureEvaluator(ring())
        >>> scores = evaluator(torch.zeros(2500, 2))
        >>> print(scores["captured_modes"])
        0 (real 8, higher is better)
    """

    def __init__(self, mixture: Mixture, *, samples: int = 2500) -> None:
        check_count("samples", samples)
        self.mixture = mixture
        self.samples = samples
        random = torch.Generator().manual_seed(stream_seed(0, "evaluation"))
        self._real = self._figures(mixture.sample(samples, generator=random))

    def __call__(self, samples: Tensor) -> dict[str, Score]:
        """Return the scores of samples, `(N, dimensions)`."""
        return {
            name: Score(value, self._real[name], _BETTER[name], len(samples))
            for name, value in self._figures(samples).items()
        }

    def _figures(self, samples: Tensor) -> dict[str, float]:
        coverage = mode_coverage(samples, self.mixture.modes, self.mixture.standard_deviation)
        return {name: float(getattr(coverage, name)) for name in _BETTER}
