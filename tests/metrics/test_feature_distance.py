import math

import pytest
import torch
from torch import nn

from gankit.data.digits import mnist_5k
from gankit.errors import BadArgumentsError, BadValueError, DataError, NonFiniteDataError, ShapeError
from gankit.metrics import FEATURE_METRICS, Evaluator, FeatureDistance, feature_values
from gankit.presets import vanilla_mnist
from gankit.training import Evaluate


def images(count, size=4, seed=0):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def moments(x):
    return torch.stack([x.flatten(1).mean(1), x.flatten(1).std(1), x.flatten(1).amax(1)], 1)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.images = 0

    def forward(self, x):
        self.images += len(x)
        return moments(x)


def test_scores_are_the_metrics_of_the_features_beside_those_of_real_images():
    real, held_out, samples = images(40), images(30, seed=1), images(30, seed=2).square()
    evaluate: Evaluator = FeatureDistance(moments, real, held_out, name="moments")
    scores = evaluate(samples)
    expected = feature_values(moments(samples), moments(real))
    floor = feature_values(moments(held_out), moments(real))
    assert list(scores) == [f"moments_{metric}" for metric in FEATURE_METRICS]
    for metric, better in FEATURE_METRICS.items():
        score = scores[f"moments_{metric}"]
        assert score.value == pytest.approx(expected[metric], rel=1e-9)
        assert score.real == pytest.approx(floor[metric], rel=1e-9)  # in another order
        assert (score.better, score.samples) == (better, 30)


def test_real_images_are_read_once_and_each_sample_once():
    extractor = Counting()
    evaluate = FeatureDistance(extractor, images(20), images(10, seed=1))
    assert extractor.images == 30
    evaluate(images(10, seed=2))
    assert extractor.images == 40


def test_without_held_out_images_the_real_ones_are_split_by_the_seed():
    def numbers(x):
        return torch.stack([x.flatten(1).sum(1), x.flatten(1).prod(1)], 1)

    real = torch.arange(20.0).view(20, 1, 1, 1)  # each image is its own number
    split = [FeatureDistance(numbers, real, seed=seed) for seed in (0, 0, 1)]
    kept = [set(one._real[:, 0].tolist()) for one in split]
    assert kept[0] == kept[1] != kept[2]
    assert [one.samples for one in split] == [10, 10, 10]
    assert len(kept[0]) == 10
    # the others are the samples of the floor: scored as samples, they have its values
    others = torch.tensor(sorted(set(range(20)) - kept[0])).float().view(10, 1, 1, 1)
    for score in split[0](others).values():
        assert score.value == pytest.approx(score.real, rel=1e-9)


@pytest.mark.parametrize(("held_out", "samples", "kept"), [(None, 7, 33), (images(30, seed=1), 7, 40)])
def test_the_number_of_samples_can_be_chosen(held_out, samples, kept):
    evaluate = FeatureDistance(moments, images(40), held_out, samples=samples)
    assert evaluate.samples == samples
    assert len(evaluate._real) == kept


@pytest.mark.parametrize("size", [3, 8])
def test_images_may_be_batches_and_have_any_size(size):
    real = images(40, size)
    batches = [(real[:25], torch.zeros(25)), (real[25:], torch.zeros(15))]
    samples = images(20, size, seed=1)
    assert FeatureDistance(moments, batches)(samples) == FeatureDistance(moments, real)(samples)


def test_bytes_and_floats_in_a_range_compare():
    real = (images(40) * 255).round()
    as_bytes, as_floats = real.to(torch.uint8), real / 127.5 - 1
    samples = images(20, seed=1) * 2 - 1
    found = [FeatureDistance(moments, one, sample_range=(-1, 1))(samples) for one in (as_bytes, as_floats)]
    for metric in ("feature_frechet_distance", "feature_coverage"):
        assert found[0][metric].value == pytest.approx(found[1][metric].value, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_have_no_value(value):
    samples = images(20, seed=1)
    samples[3, 0, 0, 0] = value
    scores = FeatureDistance(moments, images(40))(samples)
    assert all(math.isnan(score.value) and math.isfinite(score.real) for score in scores.values())


def test_real_images_that_are_not_finite_are_refused():
    real, bad = images(20), images(20)
    bad[2] = math.nan
    for given in ((bad, real), (real, bad), (bad,)):
        with pytest.raises(NonFiniteDataError, match="finite features, got NaN or infinity for 1 of them"):
            FeatureDistance(moments, *given)


@pytest.mark.parametrize(
    ("counts", "samples", "said"),
    [
        ((11,), None, "in the place of samples must be 6 or more, got 5"),
        ((40,), 35, "real images must be 6 or more, got 5"),
        ((5, 40), None, "real images must be 6 or more, got 5"),
        ((40, 5), None, "in the place of samples must be 6 or more, got 5"),
        ((40, 20), 21, "samples must be at most 20"),
        ((40,), 41, "samples must be at most 40"),
    ],
)
def test_too_few_real_images_are_refused(counts, samples, said):
    with pytest.raises(DataError, match=said):
        FeatureDistance(moments, *map(images, counts), samples=samples)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"samples": 0}, BadValueError),
        ({"samples": 2.5}, BadArgumentsError),
        ({"seed": "zero"}, BadArgumentsError),
        ({"name": "a b"}, BadValueError),
        ({"name": ""}, BadValueError),
    ],
)
def test_arguments_that_are_not_allowed_are_refused_before_any_image_is_read(arguments, error):
    extractor = Counting()
    with pytest.raises(error, match=next(iter(arguments))):
        FeatureDistance(extractor, images(40), **arguments)
    assert extractor.images == 0


def test_another_number_of_samples_is_refused():
    evaluate = FeatureDistance(moments, images(40))
    with pytest.raises(ShapeError, match="samples must be 20, .* got 19"):
        evaluate(images(19))


def test_samples_with_other_features_than_the_real_images_are_refused():
    evaluate = FeatureDistance(lambda x: x.flatten(1), images(40))
    with pytest.raises(ShapeError, match="samples must have 16 features like the real images, got 9"):
        evaluate(images(20, size=3))


def test_an_evaluation_draws_from_no_generator_of_torch():
    before = torch.get_rng_state()
    FeatureDistance(moments, images(40))(images(20, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("replicas", [None, 2])
def test_a_training_is_evaluated_by_it(replicas):
    real = mnist_5k().samples[:40]
    evaluate = Evaluate(FeatureDistance(moments, real, name="moments"), every=2)
    trainer = vanilla_mnist(replicas=replicas, callbacks=[evaluate], device="cpu")
    trainer.fit(vanilla_mnist.batches(replicas=replicas, batch_size=8, device="cpu"), steps=4)
    assert [one.step for one in evaluate.history] == [0, 2, 4]
    newest = evaluate.history[-1]
    assert newest.metrics == [f"moments_{metric}" for metric in FEATURE_METRICS]
    assert newest.mean("moments_coverage").samples == 20
    assert (newest.spread("moments_frechet_distance") is None) == (replicas is None)
