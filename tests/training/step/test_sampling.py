"""Samples do not change the training."""

from __future__ import annotations

import torch

from tests.training.observing import Recorder, same, weights
from tests.training.steps import SHAPE


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
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(trainer.sample(4, seed=1), trainer.averaged_generator(z))
    assert not torch.equal(trainer.averaged_generator(z), trainer.generator.eval()(z))
