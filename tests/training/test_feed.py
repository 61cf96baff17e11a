"""Batches that run out, that are empty, or that hold NaN."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gankit.data import StreamBatches, TensorBatches, make_batches
from gankit.errors import BadArgumentsError, DataError, DataWarning, InexactResumeWarning
from gankit.presets import ring
from gankit.spec import Spec
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


# --- one call of fit after another ---------------------------------------------------------------------------

POINTS = ring.replace(
    batch_size=4,
    generator=Spec("mlp", widths=[4], block="linear_relu"),
    discriminator=Spec("mlp", widths=[4]),
    sample_range=None,
)
LINEAR = Spec("mlp", widths=[4], block="linear_relu", latent_dim=2)
PLANE = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
DATASET = TensorDataset(PLANE)
LISTED = list(PLANE.split(4))
LOADER = DataLoader(DATASET, 4)
MADE_ANEW = {
    "a tensor": lambda: POINTS.batches(PLANE, device="cpu"),
    "a name": lambda: POINTS.batches(device="cpu"),
    "a data set": lambda: POINTS.batches(DATASET, device="cpu"),
    "one loader": lambda: POINTS.batches(LOADER, device="cpu"),
    "loaders in order": lambda: POINTS.batches(DataLoader(DATASET, 4), device="cpu"),
    "one list": lambda: POINTS.batches(LISTED, device="cpu"),
}


def trained(batches, totals, **options):
    trainer = POINTS(device="cpu", **options)
    for steps in totals:
        trainer.fit(batches(), steps=steps)
    return torch.cat([one.detach().flatten() for one in trainer.generator.parameters()]), trainer


@pytest.mark.parametrize("kind", MADE_ANEW)
def test_batches_made_anew_for_each_call_train_as_those_of_one_call(kind):
    once, _ = trained(MADE_ANEW[kind], [15])
    again, trainer = trained(MADE_ANEW[kind], [4, 8, 15])
    assert torch.equal(once, again)
    assert trainer.feed.batches.is_reserved is False


def test_batches_made_anew_continue_after_a_resume_too():
    once, _ = trained(MADE_ANEW["a tensor"], [15])
    _, stopped = trained(MADE_ANEW["a tensor"], [4])
    trainer = POINTS(device="cpu")
    trainer.load_state_dict(stopped.state_dict())
    trainer.load_data_state(MADE_ANEW["a tensor"](), stopped.data_state())
    trainer.fit(MADE_ANEW["a tensor"](), steps=15)
    assert torch.equal(once, torch.cat([one.detach().flatten() for one in trainer.generator.parameters()]))


class Pictures(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        return PLANE[index]


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(PLANE.split(4)),
        lambda: DataLoader(Pictures(), 4),
        lambda: POINTS.batches(Pictures(), device="cpu"),
        lambda: iter(LISTED),
    ],
    ids=["lists", "loaders", "data sets", "generators"],
)
def test_other_batches_that_begin_again_get_a_warning(make):
    with pytest.warns(
        DataWarning, match="begin with the same samples as those of the call before, which were not read"
    ):
        trained(make, [4, 6])


def test_batches_that_were_read_to_their_end_may_begin_again():
    trained(lambda: list(PLANE.split(4)), [6, 9])
    trained(lambda: [PLANE], [1, 2, 5])
    trained(lambda: POINTS.batches(Pictures(), device="cpu"), [6, 9])
    trained(lambda: DataLoader(PLANE, 4), [6, 9])


def test_a_callback_may_look_at_the_batches():
    for batches in (POINTS.batches(PLANE, device="cpu"), POINTS.batches(DATASET, device="cpu")):
        looked = []

        class Look:
            every = 1

            def __call__(self, trainer, batches=batches, looked=looked):
                looked.append(next(iter(batches)))

        alone, _ = trained(lambda: POINTS.batches(PLANE, device="cpu"), [15])
        alone = alone if isinstance(batches, TensorBatches) else trained(MADE_ANEW["a data set"], [15])[0]
        watched, trainer = trained(lambda batches=batches: batches, [15], callbacks=[Look()])
        assert torch.equal(alone, watched)
        assert len(looked) == 15
        assert trainer.data_state()["batches"]["position"] == 3


@pytest.mark.parametrize("source", ["a tensor", "a data set"])
def test_a_callback_may_look_at_batches_that_were_made_anew(source):
    current = []

    class Look:
        every = 1

        def __call__(self, trainer):
            next(iter(current[-1]))

    def make():
        current.append(MADE_ANEW[source]())
        return current[-1]

    alone, _ = trained(MADE_ANEW[source], [2, 4, 7])
    watched, _ = trained(make, [2, 4, 7], callbacks=[Look()])
    assert torch.equal(alone, watched)


# --- sources that refill one tensor --------------------------------------------------------------------------


class Refilled:
    """Endless batches, each in the same tensor."""

    def __init__(self, batches):
        self.batches, self.place = batches, torch.empty_like(batches[0])

    def __iter__(self):
        for one in self.batches:
            yield self.place.copy_(one)


class RefilledLatent:
    """A latent that fills the same tensor each time."""

    shape = (2,)
    place = None

    def __call__(self, count, *, generator, device):
        self.place = torch.empty(count, 2) if self.place is None else self.place
        return self.place.normal_(generator=generator)


class Fresh(RefilledLatent):
    def __call__(self, count, *, generator, device):
        return torch.randn(count, 2, generator=generator)


class RefilledSampler(RefilledLatent):
    sample_shape = (2,)

    def sample(self, count, *, generator=None, device="cpu"):
        return self(count, generator=generator, device=device)


class FreshSampler(Fresh):
    sample_shape = (2,)
    sample = RefilledSampler.sample


@pytest.mark.parametrize("wrap", [lambda one: one, StreamBatches, lambda one: StreamBatches(one, sample_range=None)])
def test_each_update_has_its_own_batch_where_the_source_refills_one_tensor(wrap):
    batches = [torch.full((2, 2), index / 10) for index in range(6)]
    feed = Feed(wrap(Refilled(batches)), CPU)
    assert torch.equal(torch.cat(feed.take(3)), torch.cat(batches[:3]))


def test_a_condition_is_copied_too_and_a_list_is_not():
    place = torch.zeros(2)
    feed = Feed(iter([(torch.ones(2), place), (torch.ones(2), place.add_(1))]), CPU)
    first, _ = feed.take(2)
    assert first[1].data_ptr() != place.data_ptr()
    assert Feed(LISTED, CPU).take(2)[0] is LISTED[0]


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("penalty", ["r1", "path_length"])
def test_parts_that_refill_one_tensor_train_as_others(penalty, replicas):
    def weights(latent, sampler):
        options = {"regularizers": [penalty], "discriminator_steps": 2, "averaging_decay": None}
        trainer = POINTS(device="cpu", latent=latent, replicas=replicas, **options | {"generator": LINEAR})
        trainer.fit(make_batches(sampler, batch_size=4, sample_range=None, replicas=replicas), steps=3)
        return torch.cat([one.detach().flatten() for one in trainer.generator.parameters()])

    assert torch.equal(weights(RefilledLatent(), RefilledSampler()), weights(Fresh(), FreshSampler()))


# --- what is no batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "error", "says"),
    [
        (lambda: iter(LISTED), BadArgumentsError, "batches must be something that yields them, .* got function$"),
        ("ring", BadArgumentsError, "batches must be something that yields them, .* got str$"),
        (3, BadArgumentsError, "batches must be something that yields them, .* got int$"),
    ],
    ids=["function", "name", "number"],
)
def test_what_is_no_batches_is_refused(batches, error, says):
    with pytest.raises(error, match=says):
        POINTS(device="cpu").fit(batches, steps=1)
