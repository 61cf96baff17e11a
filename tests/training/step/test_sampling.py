"""Samples do not change the training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.latents import Normal, OneHotNormal, Uniform
from gankit.training import SampleGrids
from gankit.training.step import sampling
from gankit.training.step.sampling import first_latents, generate, seeds_per_replica
from tests.training.observing import Recorder, same, weights
from tests.training.steps import CLASSES, SHAPE, make, make_batches, small_networks, stacked


def test_sampling_is_in_eval_mode_without_a_graph_and_restores_the_modes(make_trainer):
    log = []
    trainer = make_trainer()
    trainer.generator = Recorder(trainer.generator, log)
    trainer.generator.network[1].eval()
    images = trainer.sample(5)
    assert images.shape == (5, *SHAPE)
    assert not images.requires_grad
    assert log[-1]["training"] is False
    assert trainer.generator.training
    assert trainer.generator.network[1].training is False


def test_sampling_does_not_change_the_training(make_trainer, batches):
    quiet = make_trainer().fit(batches, steps=4)
    chatty = make_trainer().fit(batches, steps=2)
    chatty.sample(7)
    chatty.sample(7, seed=3)
    chatty.fit(batches, steps=4)
    assert same(weights(quiet.generator), weights(chatty.generator))


def test_a_seed_fixes_the_samples_and_their_number_a_pass_does_not_matter(make_trainer):
    trainer = make_trainer()
    assert torch.equal(trainer.sample(9, seed=1), trainer.sample(9, seed=1))
    torch.testing.assert_close(trainer.sample(9, seed=1), trainer.sample(9, seed=1, batch_size=2))
    assert not torch.equal(trainer.sample(9), trainer.sample(9))


def test_samples_come_from_the_averaged_generator(make_trainer, batches):
    trainer = make_trainer(averaging_decay=0.9).fit(batches, steps=5)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))[:4]
    torch.testing.assert_close(trainer.sample(4, seed=1), trainer.averaged_generator(z))
    assert not torch.equal(trainer.averaged_generator(z), trainer.generator.eval()(z))


# --- networks that draw or normalise themselves ----------------------------------------------------------


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class Noisy(nn.Module):
    """A generator that draws noise in its forward pass, in eval mode too, also on the CPU."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 16), nn.Linear(16, 16)

    def forward(self, z):
        hidden = self.first(z)
        hidden = nn.functional.dropout(hidden + torch.randn_like(hidden) + torch.randn(1).item(), 0.1, training=True)
        return self.last(hidden).unflatten(1, SHAPE)


class Doubtful(nn.Sequential):
    """A discriminator that draws noise in its forward pass."""

    def forward(self, x):
        return super().forward(x + 0.1 * torch.randn_like(x))


def noisy_networks(classes, dtype):
    return Noisy(), Doubtful(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))


@pytest.mark.parametrize("decay", [None, 0.5])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_noise_that_a_network_draws_follows_from_the_seed(device, decay):
    trainer = make(networks=noisy_networks, averaging_decay=decay, device=device)
    first = trainer.sample(4, seed=3)
    trainer.sample(2)
    torch.randn(5)
    assert torch.equal(trainer.sample(4, seed=3), first)
    assert not torch.equal(trainer.sample(4, seed=4), first)
    assert not torch.equal(trainer.sample(4), trainer.sample(4))


def test_noise_that_a_network_draws_continues_with_the_stream_of_samples():
    one, other = make(networks=noisy_networks), make(networks=noisy_networks)
    one.sample(4)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.sample(4), other.sample(4))


def looks(trainer):
    trainer.sample(3)


def looks_with_a_seed(trainer):
    trainer.sample(3, seed=1)


def looks_in_vain(trainer):
    with pytest.raises(BadArgumentsError, match=r"condition is of shape \(3, 5\), and the generator Noisy takes none"):
        trainer.sample(3, torch.zeros(3, 5))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("look", [looks, looks_with_a_seed, looks_in_vain, "grids"])
def test_looking_at_samples_of_a_network_that_draws_changes_nothing_in_training(tmp_path, look, device):
    pytest.importorskip("torchvision" if look == "grids" else "torch")

    def trained(callbacks=()):
        trainer = make(networks=noisy_networks, callbacks=list(callbacks), device=device)
        return trainer.fit(make_batches(device=device), steps=4)

    class Looks:
        every = 1

        def __call__(self, trainer):
            look(trainer)

    looked = trained([SampleGrids(tmp_path, every=1, count=4) if look == "grids" else Looks()])
    assert same(weights(trained().generator), weights(looked.generator))


def test_a_generator_without_running_statistics_gets_passes_of_several_samples(make_trainer):
    G = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.Unflatten(1, SHAPE))
    trainer = make_trainer(G)
    assert trainer.sample(5, batch_size=4).shape == (5, *SHAPE)
    assert trainer.sample(1025).shape == (1025, *SHAPE)
    for count, batch_size in ((1, 1024), (4, 1)):
        with pytest.raises(BadValueError, match=f"passes of 2 samples or more .*, got {count} and {batch_size}"):
            trainer.sample(count, batch_size=batch_size)
    assert trainer.generator.training


class Plain(nn.Linear):
    """A generator without a length, of which torch.compile makes a module whose truth value is an error."""

    def forward(self, z):
        return super().forward(z).unflatten(1, SHAPE)


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_compiled_generator_is_trained_averaged_loaded_and_sampled(decay):
    def networks(classes, dtype):
        return torch.compile(Plain(3, 16), backend="eager"), noisy_networks(classes, dtype)[1]

    trainer, other = (make(networks=networks, averaging_decay=decay) for _ in range(2))
    other.load_state_dict(trainer.fit(make_batches(), steps=3).state_dict())
    assert torch.equal(trainer.sample(4, seed=1), other.sample(4, seed=1))
    with pytest.raises(BadValueError, match="got one without replicas"):
        trainer.replica(0)


@pytest.mark.parametrize("condition", [7, [1, 2, 0], torch.tensor(1)])
def test_a_condition_that_is_no_tensor_of_entries_is_refused(condition):
    with pytest.raises(
        BadArgumentsError, match="condition must be a tensor with one entry .* a seed is given as seed="
    ):
        make(classes=CLASSES).sample(3, condition)


# --- other counts ----------------------------------------------------------------------------------------


def whole_numbers(count, *, generator, device):
    return torch.randint(10, (count, 3), generator=generator, device=device)


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize(
    "latent",
    [Normal(3), Uniform(3), Normal(1), OneHotNormal(latent_dim=5, categories=2), whole_numbers],
    ids=["normal", "uniform", "one number", "one-hot", "whole numbers"],
)
def test_the_first_latents_do_not_depend_on_the_count(latent, replicas):
    state = make(networks=stacked(small_networks, replicas) if replicas else small_networks).state
    state.latent = latent

    def latents(count):
        found = first_latents(state, count, state.randomness.generators([3, 4][: replicas or 1]))
        assert found.shape[: len(state.value_shape) + 1] == (*state.value_shape, count)
        return found.movedim(len(state.value_shape), 0)

    many = latents(150)
    for count in (1, 5, 63, 64, 65, 128):
        assert torch.equal(latents(count), many[:count])


def test_more_samples_than_the_memory_holds_are_refused(make_trainer, monkeypatch):
    trainer = make_trainer()  # whose latents have 12 bytes, and its samples 64
    for memory, count in ((12 * 500, 500), (64 * 1000, 1000)):
        monkeypatch.setattr(sampling, "memory_bytes", lambda device, memory=memory: memory)
        with pytest.raises(BadValueError, match=f"count must be at most {count}, for which the memory of cpu suffices"):
            trainer.sample(count + 1)
    assert len(trainer.sample(1000)) == 1000


# --- the functions ---------------------------------------------------------------------------------------


def test_samples_are_the_networks_answers_to_the_latents_of_their_generator():
    state = make(classes=CLASSES).state
    labels, random = torch.arange(5) % CLASSES, torch.Generator().manual_seed(4)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(4))[:5]
    wanted = state.generator.eval()(z, labels)
    for batch_size in (1, 2, 5, 1024):
        torch.testing.assert_close(generate(state, 5, labels, random.manual_seed(4), batch_size=batch_size), wanted)


def test_every_replica_gets_the_same_condition_and_its_own_latents():
    state = make(classes=CLASSES, networks=stacked(small_networks, 2)).state
    labels = torch.arange(5) % CLASSES
    samples = generate(state, 5, labels, state.randomness.generators([7, 8]), batch_size=2)
    for index in range(2):
        z = torch.randn(64, 3, generator=torch.Generator().manual_seed(7 + index))[:5]
        torch.testing.assert_close(samples[index], state.generator.replica(index).eval()(z, labels))


def test_the_modes_come_back_after_an_error():
    trainer = make(classes=CLASSES)
    with pytest.raises(BadArgumentsError, match="needs a condition"):
        trainer.sample(3)
    assert all(layer.training for layer in trainer.generator.modules())


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"count": 0}, BadValueError, "count must be above 0, got 0"),
        ({"count": 2.5}, BadArgumentsError, "count must be an integer, got 2.5"),
        ({"batch_size": 0}, BadValueError, "batch_size must be above 0, got 0"),
        ({"condition": torch.zeros(4)}, ShapeError, "condition must have one entry per sample, got 4 for 3"),
    ],
)
def test_what_cannot_be_sampled_is_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        make().sample(**{"count": 3} | arguments)


@pytest.mark.parametrize(
    ("seed", "replicas", "seeds"),
    [(7, None, [7]), (7, 1, [7]), (7, 3, [7, 8, 9]), ([5], None, [5]), ((3, 1), 2, [3, 1])],
)
def test_one_seed_counts_up_and_a_list_is_taken_as_it_is(seed, replicas, seeds):
    assert seeds_per_replica(seed, replicas) == seeds


@pytest.mark.parametrize(
    ("seed", "replicas", "error", "says"),
    [
        ([1, 2], None, BadValueError, r"one number, or 1, one per replica, got \[1, 2\]"),
        ([], 2, BadValueError, r"one number, or 2, one per replica, got \[\]"),
        (1.5, None, BadArgumentsError, "seed must be an integer, got 1.5"),
        ([1, 2.5], 2, BadArgumentsError, "seed must be an integer, got 2.5"),
        ([1, 2**63], 2, BadValueError, "seed must be from"),
        (2**63 - 1, 2, BadValueError, "seed must be from"),
    ],
)
def test_a_seed_that_is_none_is_refused(seed, replicas, error, says):
    with pytest.raises(error, match=says):
        seeds_per_replica(seed, replicas)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_of_no_class_are_refused(labels):
    state = make(classes=CLASSES).state
    with pytest.raises(BadValueError, match=rf"from 0 to 2 for num_classes=3, got {min(labels)} to {max(labels)}$"):
        generate(state, 2, torch.tensor(labels), state.randomness.sampling, batch_size=2)
