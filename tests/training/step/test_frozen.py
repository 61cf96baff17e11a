"""What is frozen does not change by a bit, and what both networks share is trained as in a loop by hand."""

from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit import AdversarialTrainer
from gankit.errors import BadArgumentsError, BadValueError
from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.regularizers import R1, PathLength, WeightClipping
from gankit.seeds import stream_seed
from gankit.training import Stacked
from tests.training import steps
from tests.training.observing import same, weights
from tests.training.operators import READS, Operators
from tests.training.steps import CLASSES, assert_the_same_run, small_networks, stacked

make = partial(steps.make, dtype=torch.float64)
make_batches = partial(steps.make_batches, dtype=torch.float64)
momentum = partial(torch.optim.SGD, lr=1e-2, momentum=0.9, weight_decay=0.1)
adamw = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)


def first_layer(network):
    return next(layer for layer in network.modules() if isinstance(layer, nn.Linear))


def leave_gradients(trainer):
    """What a loop of the owner's may leave behind."""
    for network in (trainer.generator, trainer.discriminator):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 100.0)


# --- frozen layers -----------------------------------------------------------------------------------------

WAYS = {
    "eager": {},
    "momentum and decay": {"optimizer": momentum},
    "adamw": {"optimizer": adamw},
    "compiled": {"execution": "compile"},
    "shared fakes": {"share_generator_forward": True},
    "skip": {"on_non_finite": "skip"},
    "averaged": {"averaging_decay": 0.5},
    "replicas": {"networks": stacked(small_networks, 2)},
    "clamped": {"regularizers": [WeightClipping(bound=0.02)]},
}


@pytest.mark.parametrize("when", ["before the first step", "between two fits"])
@pytest.mark.parametrize("way", WAYS)
def test_a_frozen_layer_does_not_change_by_a_bit(way, when, traced_only):
    trainer, data = make(**WAYS[way]), make_batches(replicas=(2,) if way == "replicas" else ())
    if when == "between two fits":
        trainer.fit(data, steps=2)
    leave_gradients(trainer)
    layers = [first_layer(trainer.generator), first_layer(trainer.discriminator)]
    for layer in layers:
        layer.requires_grad_(False)
    before = [weights(layer) for layer in layers], weights(trainer.generator), weights(trainer.discriminator)
    trainer.fit(data, steps=5)
    assert trainer.explain().mode == ("compile" if way == "compiled" else "eager")
    assert all(same(weights(layer), old) for layer, old in zip(layers, before[0], strict=True))
    assert not same(weights(trainer.generator), before[1])
    assert not same(weights(trainer.discriminator), before[2])
    for layer in layers:
        layer.requires_grad_(True)
    trainer.fit(data, steps=7)
    assert not any(same(weights(layer), old) for layer, old in zip(layers, before[0], strict=True))


@pytest.mark.parametrize("way", ["eager", "compile"])
def test_layers_frozen_and_thawed_by_a_callback_give_the_loop_by_hand(way, traced_only):
    class Gradually:
        every = 1

        def __call__(self, trainer):
            first_layer(trainer.discriminator).requires_grad_(trainer.steps_done % 4 < 2)

    trainer = make(way, optimizer=momentum, callbacks=[Gradually()])
    hand, data = make(optimizer=momentum), make_batches()
    by_hand = Loop(hand)
    for step in range(8):
        by_hand(data[step % 4])
        Gradually()(_At(hand, step + 1))
    trainer.fit(data, steps=8)
    for ours, theirs in ((trainer.generator, hand.generator), (trainer.discriminator, hand.discriminator)):
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0 if way == "eager" else 1e-12)


class _At:
    """A trainer whose steps another loop makes."""

    def __init__(self, trainer, steps_done):
        self.generator, self.discriminator, self.steps_done = trainer.generator, trainer.discriminator, steps_done


class Loop:
    """The usual loop by hand, over the networks and optimizers of a trainer."""

    def __init__(self, trainer, seed=0):
        self.G, self.D = trainer.generator, trainer.discriminator
        self.optimizer_G, self.optimizer_D = trainer.generator_optimizer, trainer.discriminator_optimizer
        self.noise = torch.Generator().manual_seed(stream_seed(seed, "training noise"))

    def __call__(self, real, *condition):
        def z():
            return torch.randn(len(real), 3, generator=self.noise).to(real.dtype)

        with torch.no_grad():
            fake = self.G(z(), *condition)
        self.optimizer_D.zero_grad()
        real_logits, fake_logits = self.D(real, *condition), self.D(fake, *condition)
        (F.softplus(-real_logits) + F.softplus(fake_logits)).mean().backward()
        self.optimizer_D.step()
        self.optimizer_G.zero_grad()
        F.softplus(-self.D(self.G(z(), *condition), *condition)).mean().backward()
        self.optimizer_G.step()


def test_what_is_frozen_does_not_count_in_the_gradient_norm():
    trainers = [make(max_gradient_norm=1e9, optimizer=momentum) for _ in range(2)]
    for trainer in trainers:
        first_layer(trainer.discriminator).requires_grad_(False)
    leave_gradients(trainers[1])
    results = [trainer.step(make_batches()[0]) for trainer in trainers]
    assert torch.equal(results[0]["discriminator_gradient_norm"], results[1]["discriminator_gradient_norm"])


# --- a wholly frozen half ----------------------------------------------------------------------------------

HALF = pytest.mark.parametrize("half", ["generator", "discriminator"])


@HALF
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": "compile"},
        {"share_generator_forward": True},
        {"on_non_finite": "skip"},
        {"max_gradient_norm": 0.1, "averaging_decay": 0.5},
        {"regularizers": [R1(), PathLength(), WeightClipping(bound=1e-3)]},
        {"networks": stacked(small_networks, 2), "max_gradient_norm": 0.1},
    ],
    ids=["plain", "compiled", "shared fakes", "skip", "clipped", "penalties", "replicas"],
)
def test_a_wholly_frozen_network_is_not_trained_and_the_other_one_is(half, options, traced_only):
    trainer = make(optimizer=momentum, **options)
    data = make_batches(replicas=(2,) if trainer.replicas else ())
    network, other = trainer.generator, trainer.discriminator
    if half == "discriminator":
        network, other = other, network
    network.requires_grad_(False)
    leave_gradients(trainer)
    before = [p.detach().clone() for p in network.parameters()], [p.detach().clone() for p in other.parameters()]
    trainer.fit(data, steps=3)
    assert same(network.parameters(), before[0])
    assert not same(other.parameters(), before[1])
    assert {"generator_loss", "discriminator_loss"} <= trainer.metrics.keys()
    if "max_gradient_norm" in options:
        assert not trainer.metrics[f"{half}_gradient_norm"].any()
    network.requires_grad_(True)
    trainer.fit(data, steps=5)
    assert not same(network.parameters(), before[0])


@HALF
def test_a_frozen_network_takes_no_backward_pass_and_reads_nothing(half):
    trainer = make(optimizer=momentum)
    network = trainer.generator if half == "generator" else trainer.discriminator
    trainer.step(make_batches()[0])
    with Operators() as whole:
        trainer.step(make_batches()[0])
    network.requires_grad_(False)
    with Operators() as one:
        trainer.step(make_batches()[0])
    assert one.counts.total() < whole.counts.total() - 15
    assert not READS & one.counts.keys()


# --- the states of parameters that begin to be trained -----------------------------------------------------


def test_a_skipped_first_update_of_a_thawed_layer_leaves_no_nan_in_its_moments():
    trainer, data = make(optimizer=adamw, on_non_finite="skip"), make_batches()
    first_layer(trainer.discriminator).requires_grad_(False)
    trainer.step(data[0])
    first_layer(trainer.discriminator).requires_grad_(True)
    trainer.step(torch.full_like(data[0], torch.inf))
    trainer.step(data[1])
    assert all(p.isfinite().all() for p in trainer.discriminator.parameters())
    assert trainer.watch.skipped >= 1


# --- parameters of both networks ---------------------------------------------------------------------------


class Conditional(nn.Module):
    """A network with an embedding that another one may share."""

    def __init__(self, embedding, inputs, shape):
        super().__init__()
        self.embedding = embedding
        self.shape = shape
        width = embedding.embedding_dim
        self.network = nn.Sequential(nn.Linear(inputs + width, 8), nn.Tanh(), nn.Linear(8, 16 if shape else 1))
        self.to(torch.float64)

    def forward(self, x, condition):
        joined = torch.cat([x.flatten(1), self.embedding(condition)], 1)
        return self.network(joined).reshape(len(x), *self.shape)


def sharing(classes=None, dtype=None):
    embedding = nn.Embedding(CLASSES, 4)
    return Conditional(embedding, 3, steps.SHAPE), Conditional(embedding, 16, ())


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("optimizer", [momentum, adamw], ids=["sgd", "adamw"])
def test_a_shared_embedding_is_trained_as_in_the_loop_by_hand(optimizer, execution, traced_only):
    trainer, hand = (make(way, networks=sharing, optimizer=optimizer) for way in (execution, "eager"))
    data, by_hand = make_batches(CLASSES), Loop(hand)
    for real, condition in data:
        by_hand(real, condition)
    trainer.fit(data, steps=4)
    assert trainer.explain().mode == execution
    for ours, theirs in ((trainer.generator, hand.generator), (trainer.discriminator, hand.discriminator)):
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0 if execution == "eager" else 1e-12)


def test_a_shared_parameter_that_only_one_optimizer_holds_is_trained_by_that_one():
    trainers = []
    for _ in range(2):
        torch.manual_seed(0)
        G, D = sharing()
        trainers.append(
            AdversarialTrainer(
                G,
                D,
                NonSaturating(),
                latent=Normal(3),
                generator_optimizer=momentum(G.network.parameters()),
                discriminator_optimizer=momentum(D.parameters()),
            )
        )
    trainer, hand = trainers
    by_hand = Loop(hand)
    for real, condition in make_batches(CLASSES):
        by_hand(real, condition)
        trainer.step((real, condition))
    assert same(weights(trainer.discriminator), weights(hand.discriminator))
    assert same(weights(trainer.generator), weights(hand.generator))


def test_a_weight_with_two_names_is_trained_by_compiled_halves_as_by_eager_ones(traced_only):
    class Tied(nn.Module):
        def __init__(self, dtype):
            super().__init__()
            self.first, self.second = nn.Linear(16, 16, dtype=dtype), nn.Linear(16, 16, dtype=dtype)
            self.second.weight = self.first.weight
            self.last = nn.Linear(16, 1, dtype=dtype)

        def forward(self, x):
            return self.last(self.second(self.first(x.flatten(1)).tanh()).tanh()).squeeze(1)

    def networks(classes=None, dtype=None):
        return small_networks(classes, dtype)[0], Tied(dtype)

    data = make_batches()
    eager, compiled = (make(way, networks=networks).fit(data, steps=3) for way in ("eager", "compile"))
    assert compiled.explain().mode == "compile"
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


def test_fakes_for_both_halves_are_refused_where_d_changes_a_parameter_of_g():
    with pytest.raises(BadValueError, match="the parameter 'embedding.weight' that both networks share; leave it off"):
        make(networks=sharing, share_generator_forward=True)


def test_replicas_of_networks_that_share_a_parameter_are_refused():
    def shared(*_):
        embedding = nn.Embedding(CLASSES, 4)
        return Conditional(embedding, 3, steps.SHAPE), Conditional(embedding, 16, ())

    with pytest.raises(BadArgumentsError, match="must have parameters of their own, got networks that share one"):
        make(networks=stacked(shared, 2))


def test_replicas_that_were_pickled_share_nothing_with_others():
    first = pickle.loads(pickle.dumps(Stacked([nn.Linear(2, 1)])))
    assert not first.shares_parameters_with(Stacked([nn.Linear(2, 1)]))


def test_replicas_with_other_frozen_layers_are_refused():
    layers = [nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)]
    with pytest.raises(BadArgumentsError, match="with other parameters, or other ones frozen"):
        Stacked(layers)
