"""Toy distributions have the moments of their formulas, and their batches keep their position."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gankit.data import (
    DATASETS,
    GaussianMixture,
    Mixture,
    SampledBatches,
    Sampler,
    SwissRoll,
    TwoMoons,
    grid,
    make_batches,
    ring,
)
from gankit.errors import BadValueError, DataError, ShapeError
from gankit.presets import ring as ring_preset

NAMES = ["grid", "ring", "swiss_roll", "two_moons"]
EVERY = pytest.mark.parametrize("name", NAMES)
MIXTURES = pytest.mark.parametrize("name", ["grid", "ring"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the numbers of the papers ---------------------------------------------------------------------------


def test_the_ring_has_the_numbers_of_the_paper():
    data = ring()
    expected = [[math.cos(2 * math.pi * i / 8), math.sin(2 * math.pi * i / 8)] for i in range(8)]
    torch.testing.assert_close(data.modes, torch.tensor(expected))
    assert data.standard_deviation == 0.01


def test_the_grid_has_the_numbers_of_the_paper():
    data = grid()
    places = [-4.0, -2.0, 0.0, 2.0, 4.0]
    assert sorted(map(tuple, data.modes.tolist())) == list(itertools.product(places, places))
    assert data.standard_deviation == 0.05


def test_the_sizes_can_be_changed():
    assert ring(3, radius=2.0).modes.norm(dim=1).tolist() == pytest.approx([2.0] * 3)
    assert sorted(grid(2, spacing=3.0).modes[:, 0].tolist()) == [-1.5, -1.5, 1.5, 1.5]
    assert grid(1).modes.tolist() == [[0.0, 0.0]]


# --- draws -----------------------------------------------------------------------------------------------


@MIXTURES
def test_a_mixture_is_its_modes_equally_often_with_its_deviation(name):
    data = DATASETS.build(name)
    assert isinstance(data, GaussianMixture)
    assert isinstance(data, Mixture)
    samples = data.sample(50_000, generator=seeded())
    nearest = torch.cdist(samples, data.modes).argmin(1)
    offsets = (samples - data.modes[nearest]) / data.standard_deviation
    assert offsets.mean(0).abs().max() < 0.02
    assert (offsets.std(0) - 1).abs().max() < 0.02
    expected = 50_000 / len(data.modes)
    assert (torch.bincount(nearest) - expected).abs().max() < 5 * math.sqrt(expected)


def test_the_swiss_roll_is_the_spiral_of_its_formula():
    points = SwissRoll(0.0).sample(2000, generator=seeded())
    t = points.norm(dim=1) * 7.5
    torch.testing.assert_close(points, torch.stack([t.cos(), t.sin()], 1) * t.unsqueeze(1) / 7.5, rtol=0, atol=1e-4)
    assert t.min() < 1.52 * math.pi
    assert t.max() > 4.48 * math.pi


def test_the_two_moons_are_half_circles_with_one_centre_of_symmetry():
    points = TwoMoons(0.0).sample(20_000, generator=seeded())
    to_upper = (points - torch.tensor([-0.5, -0.25])).norm(dim=1)
    to_lower = (points - torch.tensor([0.5, 0.25])).norm(dim=1)
    assert torch.minimum((to_upper - 1).abs(), (to_lower - 1).abs()).max() < 1e-5
    assert points.mean(0).abs().max() < 0.02


@pytest.mark.parametrize("build", [SwissRoll, TwoMoons])
def test_noise_is_added_to_a_curve(build):
    clean, noisy = (build(deviation).sample(20_000, generator=seeded()) for deviation in (0.0, 0.5))
    assert (noisy - clean).std() == pytest.approx(0.5, rel=0.02)


@EVERY
def test_every_toy_problem_is_a_sampler_of_the_plane(name):
    data = DATASETS.build(name)
    assert isinstance(data, Sampler)
    assert data.sample_shape == (2,)
    samples = data.sample(7, generator=seeded(3))
    assert samples.shape == (7, 2)
    assert samples.dtype == torch.float32
    assert torch.equal(samples, data.sample(7, generator=seeded(3)))
    assert not torch.equal(samples, data.sample(7, generator=seeded(4)))
    assert data.sample(1).shape == (1, 2)


def test_samples_do_not_change_the_modes():
    data = ring()
    before = data.modes.clone()
    data.sample(100).zero_()
    assert torch.equal(data.modes, before)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: ring(0), BadValueError),
        (lambda: ring(radius=0.0), BadValueError),
        (lambda: ring(standard_deviation=0.0), BadValueError),
        (lambda: grid(0), BadValueError),
        (lambda: grid(spacing=-1.0), BadValueError),
        (lambda: SwissRoll(-0.1), BadValueError),
        (lambda: TwoMoons(-0.1), BadValueError),
        (lambda: GaussianMixture(torch.zeros(3), 0.1), ShapeError),
        (lambda: GaussianMixture(torch.zeros(0, 2), 0.1), ShapeError),
    ],
)
def test_impossible_numbers_are_refused(build, error):
    with pytest.raises(error):
        build()


# --- batches ---------------------------------------------------------------------------------------------


@EVERY
def test_batches_are_endless_and_known_to_be_finite(name):
    batches = make_batches(DATASETS.build(name), batch_size=5, sample_range=None)
    assert isinstance(batches, SampledBatches)
    assert batches.known_finite
    drawn = list(itertools.islice(batches, 4))
    assert [batch.shape for batch in drawn] == [(5, 2)] * 4
    assert len(torch.cat(drawn).unique(dim=0)) == 20


def test_the_seed_decides_the_batches_and_a_state_goes_on_with_them():
    def first_of(seed):
        return next(iter(SampledBatches(ring(), batch_size=6, seed=seed)))

    assert torch.equal(first_of(1), first_of(1))
    assert not torch.equal(first_of(1), first_of(2))
    batches = SampledBatches(ring(), batch_size=6, seed=1)
    next(iter(batches))
    state = batches.state_dict()
    expected = next(iter(batches))
    other = SampledBatches(ring(), batch_size=6, seed=9)
    other.load_state_dict(state)
    assert torch.equal(next(iter(other)), expected)


def test_the_stream_of_data_is_not_the_seed_itself():
    drawn = next(iter(SampledBatches(ring(), batch_size=6, seed=0)))
    assert not torch.equal(drawn, ring().sample(6, generator=seeded(0)))


def test_what_does_not_fit_a_model_is_refused():
    with pytest.raises(ShapeError, match=r"^data must have samples of shape \(3,\), got \(2,\)$"):
        make_batches(ring(), batch_size=4, sample_shape=(3,))
    with pytest.raises(DataError, match="must have labels for a conditional model"):
        make_batches(ring(), batch_size=4, with_labels=True)
    with pytest.raises(DataError, match=r"must be in \[0, 1\]"):
        make_batches(ring(), batch_size=4, sample_range=(0.0, 1.0))
    with pytest.raises(BadValueError, match="batch_size must be above 0"):
        make_batches(ring(), batch_size=0, sample_range=None)


@pytest.mark.parametrize("data", [*NAMES, SwissRoll(), ring()], ids=str)
def test_a_preset_takes_any_of_them_by_name_and_as_an_object(data):
    batches = ring_preset.batches(data, device="cpu", batch_size=3, seed=2)
    assert next(iter(batches)).shape == (3, 2)
