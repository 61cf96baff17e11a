import math

import pytest
import torch

from gankit.data import grid, ring
from gankit.errors import BadValueError
from gankit.metrics import MixtureEvaluator


def test_real_samples_score_as_theory_says():
    """In two dimensions, `1 - exp(-9 / 2)` of a Gaussian is within three standard deviations of its centre."""
    for mixture, modes in ((ring(), 8), (grid(), 25)):
        evaluator = MixtureEvaluator(mixture)
        scores = evaluator(mixture.sample(2500, generator=torch.Generator().manual_seed(1)))
        assert {name: score.better for name, score in scores.items()} == {
            "captured_modes": "higher",
            "high_quality_share": "higher",
            "reverse_kl": "lower",
        }
        for value in ("value", "real"):
            found = {name: getattr(score, value) for name, score in scores.items()}
            assert found["captured_modes"] == modes
            assert found["high_quality_share"] == pytest.approx(1 - math.exp(-4.5), abs=0.01)
            assert found["reverse_kl"] == pytest.approx((modes - 1) / 5000, rel=1.0)
        assert scores["reverse_kl"].value != scores["reverse_kl"].real  # other samples
        assert {score.samples for score in scores.values()} == {evaluator.samples}


def test_an_evaluator_scores_the_same_samples_alike_and_draws_from_no_shared_generator():
    before = torch.get_rng_state()
    samples = torch.zeros(10, 2)
    assert MixtureEvaluator(ring())(samples) != MixtureEvaluator(grid())(samples)
    assert MixtureEvaluator(ring())(samples) == MixtureEvaluator(ring())(samples)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_samples_must_be_above_zero():
    with pytest.raises(BadValueError, match="samples"):
        MixtureEvaluator(ring(), samples=0)
