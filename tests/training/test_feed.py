"""Batches that run out, that are empty, or that hold NaN."""

from __future__ import annotations

import pytest
import torch

from gankit.data import TensorBatches
from gankit.errors import DataError, InexactResumeWarning
from gankit.training.feed import Feed


@pytest.mark.parametrize("empty", [[], iter(())])
def test_fit_refuses_batches_that_are_empty(make_trainer, empty):
    with pytest.raises(DataError, match="not empty"):
        make_trainer().fit(empty, steps=1)


def test_fit_says_when_a_generator_of_batches_runs_out(make_trainer, batches):
    trainer = make_trainer()
    with pytest.raises(DataError, match="iterated over again"):
        trainer.fit((batch for batch in batches), steps=10)
    assert trainer.steps_done == 4


def test_nan_in_a_stream_is_reported_with_the_logs(make_trainer, batches):
    batches[2][0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="finite, got NaN or infinite values in the 4 steps before step 4"):
        make_trainer(log_every_steps=4).fit(batches, steps=8)


# --- the feed --------------------------------------------------------------------------------------------

CPU = torch.device("cpu")


def numbers(count=4):
    return [torch.full((2,), float(index)) for index in range(count)]


def taken(feed, count):
    return [float(next(feed)[0]) for _ in range(count)]


def test_a_list_is_repeated_and_continued_at_its_place():
    feed = Feed(numbers(), CPU)
    assert taken(feed, 6) == [0, 1, 2, 3, 0, 1]
    assert feed.taken == 6
    other = Feed(numbers(), CPU)
    other.load_state_dict(feed.state_dict())
    assert taken(other, 4) == taken(feed, 4) == [2, 3, 0, 1]
    assert other.not_restorable is None


@pytest.mark.parametrize("at", [0, 4])
def test_the_place_between_two_epochs_is_kept_too(at):
    feed, other = Feed(numbers(), CPU), Feed(numbers(), CPU)
    taken(feed, at)
    other.load_state_dict(feed.state_dict())
    assert taken(other, 3) == [0, 1, 2]


def test_batches_with_a_state_keep_their_own_place():
    def batches():
        return TensorBatches(torch.arange(40.0).view(20, 2), batch_size=4, sample_range=None, seed=3)

    feed, other = Feed(batches(), CPU), Feed(batches(), CPU)
    for _ in range(7):
        next(feed)
    other.load_state_dict(feed.state_dict())
    for _ in range(7):
        assert torch.equal(next(feed), next(other))
    assert other.not_restorable is None


def test_batches_without_a_state_say_what_is_lost():
    feed = Feed(iter(numbers()), CPU)
    assert feed.not_restorable == (
        "the place in the batches is lost, because list_iterator has no state_dict and load_state_dict; they start "
        "from the beginning (`Preset.batches` and `StreamBatches` keep the place in a DataLoader)"
    )
    with pytest.warns(InexactResumeWarning, match="resumed from this state does not continue exactly: the place in"):
        feed.state_dict()
    feed.state_dict()  # once


@pytest.mark.parametrize(("workers", "says"), [(0, "generators of Python, of numpy"), (2, "of the loader's workers")])
def test_a_loader_with_a_state_says_which_random_numbers_are_not_saved(workers, says):
    class Loader(list):
        dataset = "pictures"
        num_workers = workers

        def state_dict(self):
            return {}

        load_state_dict = state_dict

    assert says in Feed(Loader(), CPU).not_restorable


def test_what_is_not_finite_is_recorded_until_it_is_forgotten():
    values = [*numbers(2), torch.tensor([1.0, float("inf")]), (torch.zeros(2), torch.tensor([float("nan")]))]
    feed = Feed(values, CPU)
    assert feed.all_finite is None
    taken(feed, 2)
    assert bool(feed.all_finite)
    next(feed)
    assert not bool(feed.all_finite)
    next(feed)  # finite samples, whose condition is not looked at
    assert not bool(feed.all_finite)
    other = Feed(values, CPU)
    other.load_state_dict(feed.state_dict())
    assert not bool(other.all_finite)
    feed.all_finite = None
    taken(feed, 2)
    assert bool(feed.all_finite)


def test_batches_that_are_known_to_be_finite_are_not_looked_at():
    class Known(list):
        known_finite = True

    feed = Feed(Known(numbers()), CPU)
    taken(feed, 3)
    assert feed.all_finite is None


def test_only_batches_on_the_same_device_can_be_drawn_by_a_captured_step():
    batches = TensorBatches(torch.zeros(20, 2), batch_size=4, sample_range=None)
    assert Feed(batches, CPU).device_batches is batches
    assert Feed(batches, torch.device("cuda")).device_batches is None
    assert Feed(numbers(), CPU).device_batches is None


@pytest.mark.parametrize(("batches", "kind"), [([], "list"), (iter(()), "tuple_iterator")])
def test_a_feed_without_batches_is_refused_in_one_sentence(batches, kind):
    with pytest.raises(DataError) as caught:
        next(Feed(batches, CPU))
    assert str(caught.value) == (
        f"batches must be something that can be iterated over again and is not empty, got {kind} with no batch left"
    )
