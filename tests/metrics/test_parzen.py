"""The Parzen log-likelihood is that of the formula, and of the figures that are known for real digits."""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gankit.data import DATASETS
from gankit.errors import BadArgumentsError, BadValueError, NonFiniteDataError, ShapeError
from gankit.metrics import parzen_log_likelihood
from gankit.metrics.pairs import squared_distances
from gankit.metrics.parzen import BANDWIDTHS


def by_brute_force(samples, data, bandwidth):
    """The logarithm of the density at each data point, from one Gaussian per pair, in float64."""
    samples, data = samples.double().flatten(1), data.double().flatten(1)
    normal = torch.distributions.Normal(samples, bandwidth)
    logs = torch.stack([normal.log_prob(point).sum(1).logsumexp(0) for point in data])
    return logs - math.log(len(samples))


@pytest.mark.parametrize("shape", [(3,), (1, 28, 28), (3, 5, 7)])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_it_is_the_mean_of_the_formula(shape, batch_size):
    samples, data = torch.rand(20, *shape), torch.rand(13, *shape)
    logs = by_brute_force(samples, data, 0.3)
    found = parzen_log_likelihood(samples, data, 0.3, batch_size=batch_size)
    assert found.mean == pytest.approx(float(logs.mean()), rel=1e-12)
    assert found.standard_error == pytest.approx(float(logs.std()) / math.sqrt(13), rel=1e-9)
    assert (found.bandwidth, found.samples, found.data) == (0.3, 20, 13)


def test_one_sample_is_a_gaussian():
    data = torch.tensor([[1.0, 2.0, 2.0]])
    found = parzen_log_likelihood(torch.zeros(1, 3), data, 0.5)
    assert found.mean == pytest.approx(-1.5 * math.log(2 * math.pi * 0.25) - 9 / (2 * 0.25))
    assert math.isnan(found.standard_error)


def test_the_density_is_one_in_total():
    grid = torch.linspace(-3, 4, 36)
    points = torch.cartesian_prod(grid, grid)
    samples = torch.rand(5, 2)
    logs = [parzen_log_likelihood(samples, point[None], 0.4).mean for point in points[::97]]
    assert logs == pytest.approx(by_brute_force(samples, points[::97], 0.4).tolist())
    total = by_brute_force(samples, points, 0.4).exp().sum() * 0.2**2
    assert float(total) == pytest.approx(1, abs=1e-6)


def test_float32_would_lose_what_the_exponent_needs():
    """The exponent is a squared distance over `2 s²`, so its error in nats grows as the bandwidth falls."""
    samples, data = torch.rand(2, 50, 784)
    bandwidth = 0.01
    expected = by_brute_force(samples, data, bandwidth)
    found = parzen_log_likelihood(samples, data, bandwidth)
    assert found.mean == pytest.approx(float(expected.mean()), abs=1e-6)

    flat = [one.square().sum(1) for one in (data, samples)]
    in_float32 = flat[0][:, None] + flat[1] - 2 * data @ samples.T
    exact = (data.double()[:, None] - samples.double()).square().sum(2)
    in_float64 = squared_distances(data.double(), samples.double())
    errors = [float((one - exact).abs().max()) / (2 * bandwidth**2) for one in (in_float32, in_float64)]
    assert errors[0] > 0.1  # nats
    assert errors[1] < 1e-8


@pytest.mark.parametrize(("scale", "offset"), [(2.0, 0.0), (1.0, 3.0), (2.0, -1.0)])
def test_another_range_adds_a_constant(scale, offset):
    samples, data = torch.rand(20, 10), torch.rand(15, 10)
    before = parzen_log_likelihood(samples, data, 0.2)
    after = parzen_log_likelihood(samples * scale + offset, data * scale + offset, 0.2 * scale)
    assert after.mean == pytest.approx(before.mean - 10 * math.log(scale), abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_the_order_does_not_matter(samples, points, dimensions, seed):
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, dimensions, generator=random) for count in (samples, points))
    found = parzen_log_likelihood(x, y, 0.5, batch_size=5)
    again = parzen_log_likelihood(x.flip(0), y.flip(0), 0.5, batch_size=3)
    assert again.mean == pytest.approx(found.mean)
    assert again.standard_error == pytest.approx(found.standard_error, nan_ok=True, abs=1e-9)


def test_the_bandwidth_is_the_best_of_the_validation_data():
    samples, data, validation = torch.randn(3, 100, 4)
    bandwidths = (0.1, 0.3, 0.6, 1.0, 3.0)
    found = parzen_log_likelihood(samples, data, validation=validation, bandwidths=bandwidths)
    scores = {one: parzen_log_likelihood(samples, validation, one).mean for one in bandwidths}
    assert found.bandwidth == max(scores, key=lambda one: scores[one])
    assert found == parzen_log_likelihood(samples, data, found.bandwidth)


def test_ten_bandwidths_are_tried_by_default():
    assert len(BANDWIDTHS) == 10
    assert (BANDWIDTHS[0], BANDWIDTHS[-1]) == pytest.approx((0.1, 1.0))
    ratios = [after / before for before, after in itertools.pairwise(BANDWIDTHS)]
    assert ratios == pytest.approx([ratios[0]] * 9)


def test_a_sample_that_is_not_finite_has_no_density_but_counts():
    samples, data = torch.rand(4, 3), torch.rand(5, 3)
    diverged = torch.cat([samples, torch.full((2, 3), torch.nan), torch.full((2, 3), torch.inf)])
    found = parzen_log_likelihood(samples, data, 0.2)
    spoilt = parzen_log_likelihood(diverged, data, 0.2)
    assert spoilt.mean == pytest.approx(found.mean - math.log(2))
    assert spoilt.samples == 8
    none = parzen_log_likelihood(diverged[4:], data, validation=data)
    assert none.mean == -math.inf
    assert math.isnan(none.standard_error)


def test_samples_far_away_have_a_finite_value():
    found = parzen_log_likelihood(torch.full((3, 784), 3e38), torch.zeros(2, 784), 0.1)
    assert found.mean == pytest.approx(-784 * 3e38**2 / (2 * 0.01), rel=1e-6)


def test_no_gradient_is_recorded_and_nothing_is_changed():
    samples = torch.rand(4, 3, requires_grad=True)
    before = samples.detach().clone()
    parzen_log_likelihood(samples, torch.rand(4, 3), validation=torch.rand(4, 3))
    assert samples.grad is None
    assert torch.equal(samples, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_types_are_taken(dtype):
    samples = torch.tensor([[0.5, 1.0]])
    found = parzen_log_likelihood(samples.to(dtype), samples, 1.0)
    assert found.mean == pytest.approx(-math.log(2 * math.pi))


GOOD = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, BadArgumentsError, "one of bandwidth and validation must be given, got neither"),
        ({"bandwidth": 0.2, "validation": GOOD}, BadArgumentsError, "got both"),
        ({"bandwidth": 0.0}, BadValueError, "bandwidth must be above 0, got 0.0"),
        ({"validation": GOOD, "bandwidths": ()}, BadArgumentsError, "one or more numbers"),
        ({"validation": GOOD, "bandwidths": (0.1, -1.0)}, BadValueError, "bandwidths must be above 0, got -1.0"),
        ({"validation": torch.zeros(3, 3)}, ShapeError, "validation must be"),
        ({"validation": GOOD / 0}, NonFiniteDataError, "validation must be finite"),
        ({"bandwidth": 0.2, "batch_size": 0}, BadValueError, "batch_size must be above 0, got 0"),
        ({"bandwidth": 0.2, "samples": GOOD.byte()}, BadArgumentsError, "samples must be floating-point numbers"),
        ({"bandwidth": 0.2, "data": torch.zeros(3, 3)}, ShapeError, r"data must be \(N, 2\)"),
        ({"bandwidth": 0.2, "data": GOOD / 0}, NonFiniteDataError, "data must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        parzen_log_likelihood(**{"samples": GOOD, "data": GOOD, **arguments})


# --- real digits -----------------------------------------------------------------------------------------


def digits(train: bool) -> torch.Tensor:
    root = os.environ["GANKIT_TEST_DATA"]
    return DATASETS.build("mnist", root=root, train=train, download=False).samples.float() / 255


needs_mnist = pytest.mark.skipif(
    "GANKIT_TEST_DATA" not in os.environ, reason="GANKIT_TEST_DATA names no folder that holds MNIST/raw"
)


@pytest.mark.mnist
@needs_mnist
def test_training_digits_score_226_nats_on_a_thousand_test_digits():
    found = parzen_log_likelihood(digits(True)[:10_000], digits(False)[:1000], 0.2)
    assert found.mean == pytest.approx(226.0, abs=0.05)


@pytest.mark.mnist
@pytest.mark.slow
@needs_mnist
def test_training_digits_score_241_nats_on_the_test_set_at_the_best_bandwidth():
    train = digits(True)
    found = parzen_log_likelihood(train[:10_000], digits(False), validation=train[50_000:51_000])
    assert found.mean == pytest.approx(241, abs=0.5)
    assert found.bandwidth == pytest.approx(0.167, abs=5e-4)
