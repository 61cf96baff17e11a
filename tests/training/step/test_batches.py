"""Batches are checked before a step takes them."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, DataError, ShapeError
from gankit.training.step.batches import BatchCheck
from tests.training.observing import same, weights
from tests.training.steps import CLASSES, SHAPE, make, small_networks, stacked


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        (torch.zeros(6, 1, 5, 5), ShapeError, r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
        (torch.zeros(6, *SHAPE, dtype=torch.uint8), DataError, "floating point, got torch.uint8"),
        (torch.zeros(1, *SHAPE), DataError, "2 samples or more for BatchNorm in the generator Seq.*, got 1"),
        (torch.zeros(0, *SHAPE), DataError, "a batch must have samples, got 0"),
        ("digits", DataError, r"must be `real` or `\(real, condition\)`, got str"),
        (None, DataError, r"must be `real` or `\(real, condition\)`, got NoneType"),
        (
            [[torch.zeros(6, *SHAPE)], [1]],
            DataError,
            r"must be `real` or `\(real, condition\)`, got list of list, list",
        ),
        ({"image": 1}, DataError, r"got a dictionary with \['image'\]; Preset.batches\(..., keys=\("),
        ((torch.zeros(6, *SHAPE), torch.zeros(5)), ShapeError, "one entry per sample, got 5 for 6"),
        (
            (torch.zeros(6, *SHAPE), torch.zeros(6)),
            BadArgumentsError,
            r"carry a condition of shape \(6,\), which the generator Sequential does not take",
        ),
    ],
    ids=[
        "shape",
        "bytes",
        "one sample",
        "no sample",
        "no tensor",
        "None",
        "nested",
        "dictionary",
        "short condition",
        "unwanted condition",
    ],
)
def test_a_bad_batch_is_refused_in_one_sentence(make_trainer, batch, error, says):
    with pytest.raises(error, match=says):
        make_trainer().step(batch)


# --- what a step takes -----------------------------------------------------------------------------------


def check(**options):
    return BatchCheck(make(**options).state)


def test_a_batch_gets_the_type_of_the_networks_and_its_labels_keep_theirs():
    real, condition = check(classes=CLASSES)((torch.zeros(6, *SHAPE, dtype=torch.float64), torch.zeros(6, dtype=int)))
    assert (real.dtype, condition.dtype) == (torch.float32, torch.int64)
    real, condition = check(dtype=torch.float64)(torch.zeros(6, *SHAPE))
    assert (real.dtype, condition) == (torch.float64, None)


@pytest.mark.parametrize("kind", [tuple, list])
def test_samples_alone_may_be_in_a_sequence(kind):
    samples = torch.zeros(6, *SHAPE)
    assert check()(kind([samples]))[0] is samples


def test_a_batch_that_is_right_is_not_copied():
    samples, labels = torch.zeros(6, *SHAPE), torch.zeros(6, dtype=int)
    real, condition = check(classes=CLASSES)((samples, labels))
    assert real is samples
    assert condition is labels


def test_networks_that_need_a_condition_are_checked_with_the_first_batch():
    conditional = check(classes=CLASSES)
    with pytest.raises(ShapeError, match=r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"):
        conditional((torch.zeros(6, 1, 5, 5), torch.zeros(6, dtype=int)))
    conditional((torch.zeros(6, *SHAPE), torch.zeros(6, dtype=int)))
    with pytest.raises(ShapeError, match=r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"):
        conditional((torch.zeros(6, 1, 5, 5), torch.zeros(6, dtype=int)))


def test_networks_without_batch_norm_take_a_single_sample():
    def without_norm(classes, dtype):
        return nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE)), small_networks(classes, dtype)[1]

    single = check(networks=without_norm)
    assert len(single(torch.zeros(1, *SHAPE))[0]) == 1
    with pytest.raises(DataError, match="a batch must have samples, got 0"):
        single(torch.zeros(0, *SHAPE))


def normalised(norm, *positions):
    """Return networks with a normalisation in D, over positions if there are any."""
    G = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE))
    D = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Unflatten(1, (2, 2, 2)) if positions else nn.Identity())
    return G, D.extend([norm, nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)])


def frozen(layer):
    return layer.requires_grad_(False).eval()


SINGLE = {
    "in D": (lambda: normalised(nn.BatchNorm1d(8)), "the discriminator Sequential"),
    "in G": (
        lambda: (
            nn.Sequential(normalised(None)[0], nn.Flatten(), nn.BatchNorm1d(16), nn.Unflatten(1, SHAPE)),
            normalised(nn.Identity())[1],
        ),
        "the generator Sequential",
    ),
    "over positions": (lambda: normalised(nn.BatchNorm2d(2), 2, 2), None),
    "over positions in replicas": (lambda: stacked(lambda *_: normalised(nn.BatchNorm2d(2), 2, 2), 2)(), None),
    "in replicas": (lambda: stacked(lambda *_: normalised(nn.BatchNorm1d(8)), 2)(), "the discriminator Sequential"),
    "frozen in eval mode": (lambda: normalised(frozen(nn.BatchNorm1d(8))), None),
    "of groups": (lambda: normalised(nn.GroupNorm(2, 8)), None),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_a_single_sample_is_refused_where_a_batch_norm_cannot_use_it(kind):
    networks, where = SINGLE[kind]
    trainer = make(networks=lambda *_: networks())
    leading = () if trainer.replicas is None else (2,)
    batch = torch.zeros(*leading, 1, *SHAPE)
    before = weights(trainer.generator)
    if where is None:
        trainer.step(batch)
        trainer.step(batch)
    else:
        for _ in range(2):
            with pytest.raises(DataError, match=f"a batch must have 2 samples or more for BatchNorm in {where}, got 1"):
                trainer.step(batch)
        assert same(weights(trainer.generator), before)
        assert trainer.steps_done == 0


REPLICAS = {
    "no replica": (
        torch.zeros(6, *SHAPE),
        r"a batch for 2 replicas must be \(2, N, \*sample_shape\), got \(6, 1, 4, 4\)",
    ),
    "no sample": (torch.zeros(2), r"must be \(2, N, \*sample_shape\), got \(2,\)"),
    "another size": (torch.zeros(2, 6, 1, 5, 5), r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
    "one condition for all": ((torch.zeros(2, 6, *SHAPE), torch.zeros(6)), "one entry per sample"),
}


@pytest.mark.parametrize("case", REPLICAS)
def test_replicas_need_a_batch_each(case):
    batch, says = REPLICAS[case]
    together = check(networks=stacked(small_networks, 2))
    assert together(torch.zeros(2, 6, *SHAPE))[0].shape == (2, 6, *SHAPE)
    with pytest.raises((ShapeError, DataError), match=says) as caught:
        together(batch)
    assert "\n" not in str(caught.value)


def test_more_than_samples_and_a_condition_is_refused():
    with pytest.raises(DataError, match=r"a batch must be `real` or `\(real, condition\)`, got tuple"):
        check()((torch.zeros(6, *SHAPE), torch.zeros(6), torch.zeros(6)))


def without_shape(count, *, generator, device):
    return torch.randn(count, 3, generator=generator, device=device)


def scripted(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(network)


@pytest.mark.parametrize("kind", ["latent without a shape", "TorchScript"])
def test_a_single_sample_is_refused_where_only_the_step_shows_it(make_trainer, kind):
    G, D = normalised(nn.BatchNorm1d(8))
    trainer = make_trainer(G, scripted(D)) if kind == "TorchScript" else make_trainer(G, D, latent=without_shape)
    before = weights(trainer.generator), weights(trainer.discriminator)
    with pytest.raises(DataError, match=r"^a batch must have 2 samples or more for BatchNorm; a DataLoader"):
        trainer.step(torch.zeros(1, *SHAPE))
    assert all(map(same, before, (weights(trainer.generator), weights(trainer.discriminator))))
    trainer.step(torch.zeros(2, *SHAPE))
