"""One step is Algorithm 1 of Goodfellow et al. 2014, with penalties and constraints, and returns its results."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from gankit import LossSchedule
from gankit.losses import Minimax, NonSaturating
from gankit.regularizers import R1, WeightClipping
from tests.training.observing import recorded, same, weights
from tests.training.operators import READS, Operators

# --- the algorithm ---------------------------------------------------------------------------------------


def test_d_is_trained_first_then_g_each_with_fresh_noise(make_trainer, batches):
    trainer, log_G, log_D = recorded(make_trainer)
    trainer.step(batches[0])
    assert [call["graph"] for call in log_G] == [False, True]
    assert not torch.equal(log_G[0]["input"], log_G[1]["input"])
    assert [call["frozen"] for call in log_D] == [False, False, True]
    assert torch.equal(log_D[0]["input"], batches[0])
    assert all(call["training"] for call in log_G + log_D)


def test_no_gradient_crosses_between_the_halves(make_trainer, batches):
    d_alone, both = make_trainer(discriminator_warmup_steps=1), make_trainer()
    d_alone.step(batches[0])
    both.step(batches[0])
    assert all(p.grad is None for p in d_alone.generator.parameters())
    assert all(p.grad is not None for p in both.generator.parameters())
    for alone, after_g in zip(d_alone.discriminator.parameters(), both.discriminator.parameters(), strict=True):
        assert torch.equal(alone.grad, after_g.grad)
        assert after_g.requires_grad


def test_each_discriminator_step_takes_a_batch_of_its_own(make_trainer, batches):
    trainer, _, log_D = recorded(make_trainer, discriminator_steps=3)
    trainer.fit(batches, steps=1)
    reals = [call["input"] for call in log_D[:6:2]]
    assert all(torch.equal(real, batch) for real, batch in zip(reals, batches, strict=False))


def test_warm_up_trains_d_alone(make_trainer, batches):
    trainer = make_trainer(discriminator_warmup_steps=2, averaging_decay=0.5)
    before = weights(trainer.generator.get_submodule("0")), weights(trainer.discriminator)
    results = trainer.step(batches[0])
    assert "generator_loss" not in results
    trainer.step(batches[1])
    assert same(before[0], weights(trainer.generator.get_submodule("0")))
    assert not same(before[1], weights(trainer.discriminator))
    assert "generator_loss" in trainer.step(batches[2])
    assert not same(before[0], weights(trainer.generator.get_submodule("0")))


def test_the_schedule_says_which_loss_is_active(make_trainer, batches):
    trainer = make_trainer(loss=LossSchedule({0: "non_saturating", 2: "minimax"}))
    active = []
    for _ in range(4):
        active.append(type(trainer.loss))
        trainer.step(batches[0])
    assert active == [NonSaturating, NonSaturating, Minimax, Minimax]


def test_a_relativistic_generator_loss_reads_d_of_real_without_a_graph(make_trainer, batches):
    class Pair:
        needs_real_logits: ClassVar[bool] = True
        seen: ClassVar[list] = []

        def discriminator_loss(self, real_logits, fake_logits):
            return nn.functional.softplus(fake_logits - real_logits)

        def generator_loss(self, fake_logits, real_logits=None):
            self.seen.append((fake_logits.requires_grad, real_logits.requires_grad))
            return nn.functional.softplus(real_logits - fake_logits)

    make_trainer(loss=Pair()).step(batches[0])
    assert Pair.seen == [(True, False)]


def test_conditions_reach_both_networks(make_trainer, batches):
    trainer, log_G, log_D = recorded(make_trainer)
    labels = torch.arange(6)
    trainer.step((batches[0], labels))
    training_calls = log_G[-2:] + log_D[-3:]
    assert all(torch.equal(call["condition"], labels) for call in training_calls)


def test_the_objectives_can_be_overridden(make_trainer, batches):
    trainer = make_trainer()

    class Own(type(trainer)):
        def generator_objective(self, context):
            return super().generator_objective(context) | {"pull": context.fake.flatten(1).square().mean(1)}

    trainer.__class__ = Own
    assert "pull" in trainer.step(batches[0])


# --- penalties and constraints ---------------------------------------------------------------------------


def test_r1_costs_no_forward_pass(make_trainer, batches):
    counts = []
    for regularizers in ([], [R1()]):
        trainer, log_G, log_D = recorded(make_trainer, regularizers=regularizers)
        trainer.step(batches[0])
        counts.append((len(log_G), len(log_D)))
    assert counts == [(2, 3), (2, 3)]


def test_a_lazy_penalty_is_due_every_so_often_and_reported_in_the_strength_of_its_formula(make_trainer, batches):
    every_step = make_trainer(regularizers=[R1(weight=2.0)]).step(batches[0])["penalty/r1"]
    trainer = make_trainer(regularizers={"lazy": R1(weight=2.0, every=3)})
    results = [trainer.step(batches[0]) for _ in range(4)]
    assert ["penalty/lazy" in one for one in results] == [True, False, False, True]
    torch.testing.assert_close(results[0]["penalty/lazy"], every_step)
    assert "penalty/lazy" in trainer.metrics


def test_weight_clipping_holds_after_every_step(make_trainer, batches):
    trainer = make_trainer(regularizers=[WeightClipping(bound=0.05)])
    trainer.step(batches[0])
    assert max(p.abs().max() for p in trainer.discriminator.parameters()) <= 0.05
    assert max(p.abs().max() for p in trainer.generator.parameters()) > 0.05


def test_gradients_are_clipped_for_each_network(make_trainer, batches):
    trainer = make_trainer(max_gradient_norm=1e-3, optimizer=torch.optim.SGD)
    before = [p.detach().clone() for p in trainer.discriminator.parameters()]
    results = trainer.step(batches[0])
    moved = torch.cat([(p - b).flatten() for p, b in zip(trainer.discriminator.parameters(), before, strict=True)])
    assert results["discriminator_gradient_norm"] > 1e-3
    assert moved.norm().item() == pytest.approx(1e-3 * 1e-2, rel=1e-3)
    assert results["generator_gradient_norm"].ndim == 0


# --- results ---------------------------------------------------------------------------------------------


def test_a_step_reads_nothing_on_the_host_and_returns_0d_tensors(make_trainer, batches):
    # torch's unfused Adam reads its step count, which it keeps on the host
    trainer = make_trainer(regularizers=[R1()], averaging_decay=0.9, optimizer=torch.optim.SGD)
    trainer.step(batches[0])
    with Operators() as operators:
        results = trainer.step(batches[1])
    assert not READS & operators.counts.keys()
    assert set(results) == {
        "discriminator_loss",
        "generator_loss",
        "penalty/r1",
        "real_score",
        "fake_score",
        "real_accuracy",
        "fake_accuracy",
    }
    assert all(value.ndim == 0 and not value.requires_grad for value in results.values())


def test_scores_are_probabilities_for_log_odds_and_raw_for_critics(make_trainer, batches):
    class Critic:
        needs_real_logits = False

        def discriminator_loss(self, real_logits, fake_logits):
            return fake_logits - real_logits

        def generator_loss(self, fake_logits, real_logits=None):
            return -fake_logits

    trainer = make_trainer()
    logits = trainer.discriminator(batches[0])
    odds = trainer.step(batches[0])["real_score"]
    torch.testing.assert_close(odds, logits.sigmoid().mean())
    raw = make_trainer(loss=Critic()).step(batches[0])
    torch.testing.assert_close(raw["real_score"], logits.mean())
    assert "real_accuracy" not in raw


# --- precision -------------------------------------------------------------------------------------------


def test_bfloat16_gives_the_losses_in_float32_and_uses_the_updated_weights(make_trainer, batches):
    seen = []

    class Watch(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            seen.append(fake_logits)
            return super().generator_loss(fake_logits, real_logits)

    trainer = make_trainer(loss=Watch(), precision="bfloat16", regularizers=[R1()])
    inputs = []
    trainer.discriminator.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    # a large step of D, so that logits by its old weights would differ
    trainer.discriminator_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=5.0)
    trainer.step(batches[0])
    assert seen[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(trainer.discriminator(inputs[2]).float(), seen[0])
