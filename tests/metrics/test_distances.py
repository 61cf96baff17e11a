"""The distances are those of other libraries and of their definitions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gankit.errors import BadArgumentsError, BadValueError, DataError, NonFiniteDataError, ShapeError
from gankit.metrics import KernelDistance, frechet_distance, kernel_distance


class Features(torch.nn.Module):
    """Features in place of images, for metrics that call a network."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def features(count: int, dimensions: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Correlated features of a skewed distribution, as those of a network are."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    return ((torch.randn(count, dimensions, generator=random) @ mixing + shift) / math.sqrt(dimensions)).relu()


# --- the Fréchet distance ---------------------------------------------------------------------------------

# the last has fewer samples than features, so that both covariances are singular
SETS = [(200, 300, 5), (2500, 1100, 5), (400, 400, 30), (150, 220, 1), (40, 50, 64)]


@pytest.mark.parametrize(("count", "other", "dimensions"), SETS)
def test_the_frechet_distance_is_that_of_torch_fidelity(count, other, dimensions):
    first, second = features(count, dimensions).double(), features(other, dimensions, 1, 0.7).double()
    found = frechet_distance(first, second)
    statistics = [
        {name: np.atleast_2d(value) if name == "sigma" else value for name, value in one.items()}
        for one in (fid_features_to_statistics(first), fid_features_to_statistics(second))
    ]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("count", "other", "dimensions"), [one for one in SETS if one[2] > 1])
def test_the_frechet_distance_is_that_of_torchmetrics(count, other, dimensions):
    first, second = features(count, dimensions), features(other, dimensions, 1, 0.7)
    theirs = FrechetInceptionDistance(feature=Features(dimensions)).set_dtype(torch.float64)
    theirs.update(first.double(), real=False)
    theirs.update(second.double(), real=True)
    assert frechet_distance(first, second) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_the_frechet_distance_of_uncorrelated_features_is_a_sum_over_them():
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double()  # uncorrelated, of equal variance
    first, second = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 0.5, 0.0]).double()
    shift = torch.tensor([0.5, -1.0, 2.0]).double()
    variance = 8 / 7
    expected = shift.square().sum() + variance * (first - second).square().sum()
    assert frechet_distance(first * signs, second * signs + shift) == pytest.approx(float(expected))


def test_the_frechet_distance_is_biased_by_the_number_of_samples():
    real = features(4000, 10)
    few, many = (frechet_distance(features(count, 10, 1), real) for count in (50, 4000))
    assert few > 10 * many > 0


COUNTS = st.integers(2, 30)
DIMENSIONS = st.integers(1, 12)
SEEDS = st.integers(0, 1000)


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS, DIMENSIONS, SEEDS)
def test_properties_of_the_frechet_distance(count, other, dimensions, seed):
    random = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(one, dimensions, generator=random).double() for one in (count, other))
    found = frechet_distance(first, second)
    close = pytest.approx(found, rel=1e-6, abs=1e-9)
    assert found >= 0
    assert frechet_distance(second, first) == close
    assert frechet_distance(first.flip(0), second) == close
    rotation = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=random).double()).Q
    assert frechet_distance(first @ rotation + 3, second @ rotation + 3) == close
    assert frechet_distance(3 * first, 3 * second) == pytest.approx(9 * found, rel=1e-6, abs=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(first, first.flip(0)) == pytest.approx(0, abs=1e-12)


def test_constant_features_have_a_distance_of_their_means():
    assert frechet_distance(torch.ones(3, 4), torch.zeros(5, 4)) == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("count", [3, 20])
def test_samples_that_are_not_finite_have_no_distance(value, count):
    samples = torch.rand(count, 5)
    samples[1, 2] = value
    real = torch.rand(20, 5)
    assert math.isnan(frechet_distance(samples, real))
    found = kernel_distance(samples, real, subset_size=3, subsets=2)
    assert math.isnan(found.mean)
    assert math.isnan(found.standard_deviation)


def test_very_large_samples_do_not_fail():
    assert frechet_distance(torch.tensor([[3e38], [-3e38]]), torch.rand(5, 1)) > 1e76
    assert not math.isfinite(frechet_distance(torch.tensor([[1e300], [-1e300]]).double(), torch.rand(5, 1)))
    assert kernel_distance(torch.tensor([[3e38], [-3e38]]), torch.rand(5, 1), subset_size=2).mean < -1e200


@pytest.mark.parametrize("counts", [(1, 3), (3, 1)])
def test_one_sample_has_no_covariance(counts):
    with pytest.raises(DataError, match="must have 2 or more rows, got 1"):
        frechet_distance(*(torch.zeros(count, 2) for count in counts))


# --- the kernel distance ----------------------------------------------------------------------------------


def by_brute_force(first: torch.Tensor, second: torch.Tensor) -> float:
    """The unbiased estimate, pair by pair."""
    x, y = first.double().tolist(), second.double().tolist()

    def kernel(a: list[float], b: list[float]) -> float:
        return (sum(i * j for i, j in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def of_pairs(a: list[list[float]]) -> float:
        return np.mean([kernel(u, v) for i, u in enumerate(a) for j, v in enumerate(a) if i != j])

    return float(of_pairs(x) + of_pairs(y) - 2 * np.mean([kernel(u, v) for u in x for v in y]))


@pytest.mark.parametrize(("count", "dimensions"), [(2, 1), (12, 3), (20, 40)])
def test_the_kernel_distance_is_the_sum_over_pairs(count, dimensions):
    first, second = features(count, dimensions), features(count, dimensions, 1, 0.3)
    found = kernel_distance(first, second, subsets=3, subset_size=count)  # every subset is the whole set
    assert found == KernelDistance(
        pytest.approx(by_brute_force(first, second), rel=1e-9), pytest.approx(0, abs=1e-9), 3, count
    )


@pytest.mark.parametrize(("count", "dimensions"), [(100, 5), (60, 64)])
def test_the_kernel_distance_is_that_of_the_libraries(count, dimensions):
    first, second = features(count, dimensions).double(), features(count, dimensions, 1, 0.3).double()
    found = kernel_distance(first, second, subsets=2, subset_size=count)
    fidelity = kid_features_to_metric(first, second, kid_subsets=2, kid_subset_size=count, verbose=False)
    assert found.mean == pytest.approx(fidelity["kernel_inception_distance_mean"], rel=1e-9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`", UserWarning)
        theirs = KernelInceptionDistance(feature=Features(dimensions), subsets=2, subset_size=count)
    theirs.update(first, real=False)
    theirs.update(second, real=True)
    assert found.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


def test_mean_and_spread_over_subsets_are_those_of_torch_fidelity_up_to_the_draw():
    first, second = features(400, 8).double(), features(500, 8, 1, 0.3).double()
    found = kernel_distance(first, second, subset_size=100)
    fidelity = kid_features_to_metric(first, second, kid_subset_size=100, verbose=False)
    spread = fidelity["kernel_inception_distance_std"]
    assert abs(found.mean - fidelity["kernel_inception_distance_mean"]) < 4 * spread * math.sqrt(2 / 100)
    assert found.standard_deviation == pytest.approx(spread, rel=0.4)


def test_the_mean_over_many_subsets_has_no_bias():
    whole, other = features(60, 4), features(60, 4, 1)
    found = kernel_distance(whole, other, subsets=1000, subset_size=10)
    expected = kernel_distance(whole, other, subsets=1, subset_size=60)
    assert abs(found.mean - expected.mean) < 4 * found.standard_deviation / math.sqrt(1000)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), DIMENSIONS, SEEDS)
def test_properties_of_the_kernel_distance(count, dimensions, seed):
    random = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, dimensions, generator=random).double()

    def distance(x: torch.Tensor, y: torch.Tensor) -> float:
        return kernel_distance(x, y, subsets=1, subset_size=count).mean

    close = pytest.approx(distance(first, second), rel=1e-9, abs=1e-9)
    assert distance(second, first) == close
    assert distance(first.flip(0), second) == close
    rotation = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=random).double()).Q
    assert distance(first @ rotation, second @ rotation) == close
    assert distance(torch.zeros_like(first), torch.zeros_like(first)) == 0


def test_subsets_are_drawn_by_a_generator_of_their_own():
    first, second = features(50, 4), features(50, 4, 1)
    state = torch.get_rng_state()
    found = kernel_distance(first, second, subset_size=10, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert kernel_distance(first, second, subset_size=10, seed=3) == found
    assert kernel_distance(first, second, subset_size=10, seed=4) != found


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"subset_size": 4}, DataError, "subset_size must be from 2 to 3, .*, got 4"),
        ({"subset_size": 1}, DataError, "subset_size must be from 2 to 3, .*, got 1"),
        ({"subset_size": 2, "subsets": 0}, BadValueError, "subsets must be above 0, got 0"),
        ({"subset_size": 2.5}, BadArgumentsError, "subset_size must be an integer"),
        ({"subset_size": 2, "seed": "x"}, BadArgumentsError, "seed must be an integer"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        kernel_distance(torch.zeros(5, 2), torch.zeros(3, 2), **arguments)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_features_that_do_not_fit_are_refused(distance):
    with pytest.raises(ShapeError, match="samples must be features"):
        distance(torch.zeros(3, 1, 28, 28), torch.zeros(3, 1, 28, 28))
    with pytest.raises(NonFiniteDataError, match="real must be finite, got NaN or infinity in 1 of 2 rows"):
        distance(torch.zeros(3, 1), torch.tensor([[torch.nan], [1.0]]))


@pytest.mark.parametrize("distance", [frechet_distance, lambda x, y: kernel_distance(x, y, subset_size=3).mean])
def test_no_gradient_is_needed(distance):
    x, y = torch.rand(4, 3, requires_grad=True), torch.rand(4, 3)
    assert distance(x, y) == distance(x.detach(), y)
