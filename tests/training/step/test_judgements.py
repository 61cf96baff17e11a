"""Losses of judgements by position and with several heads, against loops over positions and heads written by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from gankit import LOSSES, AdversarialTrainer, StepContext
from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.regularizers import R1, LogitDrift
from gankit.training.step.objectives import Objectives, reduce_terms
from tests.judging import CLASSES, HEAD_WEIGHTS, KINDS, LATENT_DIM, SHAPE, real_samples, rows_of, small_pair

# their statistics are those of all judgements of a head, as if it were one batch
STATISTICS = {
    "relativistic_average",
    "relativistic_average_hinge",
    "relativistic_average_least_squares",
    "softmax",
}
EVERY_LOSS = pytest.mark.parametrize("name", LOSSES.names())
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
CONDITIONS = {
    "none": (0, lambda: None),
    "labels": (CLASSES, lambda: torch.tensor([0, 2, 1, 1, 0])),
    "pictures": (1, lambda: real_samples(seed=7)),
}


def value_by_hand(name, half, real, fake, weights):
    """Return a half's objective from the rows of each head, `(N, P)`: position by position, or as one batch."""
    loss, total = LOSSES.build(name), 0
    for weight, ours, theirs in zip(weights, real, fake, strict=True):
        if name in STATISTICS:
            columns = [(ours.flatten(), theirs.flatten())]
        else:
            columns = [(ours[:, position], theirs[:, position]) for position in range(ours.shape[1])]
        values = []
        for x, y in columns:
            each = loss.discriminator_loss(x, y) if half == "discriminator" else loss.generator_loss(y, x)
            values.append(each.sum() / len(each))
        total = total + weight * sum(values) / len(values)
    return total


def assert_equal_gradients(ours, theirs, network):
    parameters = list(network.parameters())
    first, second = (torch.autograd.grad(one, parameters, retain_graph=True) for one in (ours, theirs))
    assert any(one.any() for one in first)
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-13)


@EVERY_KIND
@EVERY_LOSS
@pytest.mark.parametrize("half", ["discriminator", "generator"])
def test_a_loss_of_positions_and_heads_is_a_loop_over_them(name, kind, half):
    G, D = small_pair(kind)
    real, latent = real_samples(), torch.randn(5, LATENT_DIM, dtype=torch.float64)
    fake = G(latent) if half == "generator" else G(latent).detach()
    D.requires_grad_(half == "discriminator")
    weights = HEAD_WEIGHTS.get(kind)
    context = StepContext(discriminator=D, real=real, fake=fake, head_weights=weights)
    total, means = reduce_terms(Objectives(LOSSES.build(name)).terms(half, context, 0), context)

    heads = len(KINDS[kind])
    expected = value_by_hand(name, half, rows_of(D(real)), rows_of(D(fake)), weights or [1.0] * heads)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-13)
    assert_equal_gradients(total, expected, D if half == "discriminator" else G)

    torch.testing.assert_close(means[f"{half}_loss"], expected.detach(), rtol=1e-12, atol=1e-13)
    alone = [f"{half}_loss/head{index}" for index in range(heads)] if heads > 1 else []
    assert set(means) == {f"{half}_loss", *alone}
    for index, key in enumerate(alone):  # each head by itself has no weight
        row = [rows_of(D(x))[index] for x in (real, fake)]
        torch.testing.assert_close(means[key], value_by_hand(name, half, row[:1], row[1:], [1.0]).detach())


def trainer_of(G, D, loss, **options):
    return AdversarialTrainer(
        G,
        D,
        loss,
        latent=Normal(LATENT_DIM),
        generator_optimizer=torch.optim.SGD(G.parameters(), lr=0.1),
        discriminator_optimizer=torch.optim.SGD(D.parameters(), lr=0.1),
        **options,
    )


def step_by_hand(trainer, name, batch, condition):
    """Make a step on copies of a trainer's networks, as loops over positions and heads, and return the copies."""
    G, D = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    random = torch.Generator()
    random.set_state(trainer.noise.get_state())
    given = [] if condition is None else [condition]
    results = {}
    for half, network in (("discriminator", D), ("generator", G)):
        fake = G(trainer.draw_latents(len(batch), random), *given)
        rows = [rows_of(D(x, *given)) for x in (batch, fake)]
        total = value_by_hand(name, half, *rows, [1.0] * len(rows[0]))
        results[f"{half}_loss"] = total.detach()
        gradients = torch.autograd.grad(total, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    return G, D, results


@pytest.mark.parametrize(
    ("name", "kind", "condition"),
    [
        *[("non_saturating", kind, condition) for kind in ("patches", "five heads") for condition in CONDITIONS],
        ("relativistic", "frames", "none"),
        ("relativistic_average", "five heads", "none"),
        ("softmax", "patches", "none"),
    ],
)
def test_a_step_of_the_trainer_is_that_of_the_loops(name, kind, condition):
    planes, make = CONDITIONS[condition]
    trainer = trainer_of(*small_pair(kind, planes), LOSSES.build(name))
    real, given = real_samples(), make()
    G, D, expected = step_by_hand(trainer, name, real, given)
    results = trainer.step(real if given is None else (real, given))
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-11, atol=1e-13, msg=key)
    for key, value in expected.items():
        torch.testing.assert_close(results[key], value, rtol=1e-12, atol=1e-13)


@EVERY_KIND
@pytest.mark.parametrize("condition", CONDITIONS)
def test_concatenated_passes_are_split_before_they_are_folded(kind, condition):
    planes, make = CONDITIONS[condition]
    (_, D), real, fake = small_pair(kind, planes), real_samples(), real_samples(seed=2)
    totals = []
    for concatenate in (False, True):
        context = StepContext(
            discriminator=D,
            real=real,
            fake=fake,
            condition=make(),
            fake_condition=None if condition == "none" else make().flip(0),
            gradient_inputs={"real"},
            concatenate=concatenate,
        )
        total, _ = reduce_terms(Objectives(NonSaturating(), [R1()]).terms("discriminator", context, 0), context)
        totals.append(total)
    torch.testing.assert_close(*totals, rtol=1e-12, atol=1e-13)
    assert_equal_gradients(*totals, D)


@EVERY_KIND
def test_scores_are_means_over_judgements_weighted_like_the_heads(kind):
    (_, D), real, fake = small_pair(kind), real_samples(), real_samples(seed=2)
    weights = HEAD_WEIGHTS.get(kind)
    context = StepContext(discriminator=D, real=real, fake=fake, head_weights=weights)
    scores = Objectives(NonSaturating()).scores(context, 0)
    for which, x in (("real", real), ("fake", fake)):
        rows = rows_of(D(x))
        means = [row.sigmoid().mean() for row in rows]
        rights = [((row > 0) if which == "real" else (row < 0)).double().mean() for row in rows]
        own = torch.tensor(weights or [1.0] * len(rows), dtype=torch.float64)
        for name, values in ((f"{which}_score", means), (f"{which}_accuracy", rights)):
            expected = (own * torch.stack(values).detach()).sum() / own.sum()
            torch.testing.assert_close(scores[name].double(), expected, rtol=1e-6, atol=1e-6)
            if len(rows) > 1:
                assert [f"{name}/head{i}" in scores for i in range(len(rows) + 1)] == [True] * len(rows) + [False]


def test_a_penalty_may_have_the_name_of_a_head():
    _, D = small_pair("two heads")
    context = StepContext(discriminator=D, real=real_samples(), fake=real_samples(seed=2), head_weights=(1.0, 0.5))
    named, plain = (
        reduce_terms(Objectives(NonSaturating(), {name: LogitDrift()}).terms("discriminator", context, 0), context)
        for name in ("mine/head7", "mine")
    )
    assert torch.equal(named[0], plain[0])
    assert torch.equal(named[1]["penalty/mine/head7"], plain[1]["penalty/mine"])


def test_a_real_batch_of_another_shape_than_the_folded_logits_is_no_replica():
    """Four samples with four judgements each are (4, 4), which once counted as four replicas."""
    D = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4), torch.nn.Unflatten(1, (1, 4))).double()
    G, _ = small_pair("samples")
    results = trainer_of(G, D, NonSaturating(), regularizers=[R1()]).step(torch.zeros(4, *SHAPE, dtype=torch.float64))
    assert {value.shape for value in results.values()} == {torch.Size([])}
