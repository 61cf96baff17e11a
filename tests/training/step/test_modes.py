"""TF32 is on inside its context and nowhere else; networks are in train mode except for what is frozen in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.network_modes import tf32, train
from tests.training.observing import same, weights
from tests.training.steps import SHAPE, step_of


def switches():
    return [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]


def test_tf32_holds_inside_and_is_gone_afterwards():
    before = switches()
    with tf32():
        assert switches() == ["tf32", "tf32"]
    assert switches() == before


def test_tf32_is_gone_after_an_error():
    before = switches()
    with pytest.raises(KeyError), tf32():
        raise KeyError
    assert switches() == before


def test_tf32_inside_tf32_leaves_the_outer_one():
    with tf32():
        with tf32():
            pass
        assert switches() == ["tf32", "tf32"]


def test_a_choice_of_the_users_own_survives_tf32():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with tf32():
            pass
        assert matmul.fp32_precision == "ieee"
    finally:
        matmul.fp32_precision = before


def test_tf32_leaves_torchs_older_switches_readable():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with tf32():
        pass
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert torch.get_float32_matmul_precision() == "highest"


# --- train mode ------------------------------------------------------------------------------------------


def backbone():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU())


def generator_on(frozen):
    """Return a generator whose first part is frozen in eval mode, with dropout in the frozen part and outside."""
    torch.manual_seed(0)
    part = backbone()
    if frozen:
        part.requires_grad_(False).eval()
    return nn.Sequential(
        part, nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 16), nn.Unflatten(1, SHAPE)
    )


def modes(network):
    return [layer.training for layer in network.modules()]


@pytest.mark.parametrize(
    "options",
    [{}, {"averaging_decay": 0.9}, pytest.param({"execution": "compile"}, marks=pytest.mark.slow)],
    ids=["alone", "averaged", "compiled"],
)
def test_a_backbone_that_is_frozen_in_eval_mode_stays_as_it_is(make_trainer, batches, options):
    G = generator_on(frozen=True)
    before, modes_before = weights(G[0]), modes(G)
    trainer = make_trainer(G, **options)
    assert modes(G) == modes_before
    for steps in (2, 4):
        trainer.fit(batches, steps=steps)
        trainer.sample(3)
    trainer.generator.eval()
    trainer.step(batches[0])
    assert modes(G) == modes_before
    assert same(weights(G[0]), before)


def test_a_trainable_part_in_eval_mode_is_put_into_train_mode(make_trainer):
    G = generator_on(frozen=False)
    G[0].eval()
    G[2].requires_grad_(False)  # frozen, and in train mode: its statistics follow the batches
    make_trainer(G)
    assert all(modes(G))


def test_a_layer_without_parameters_follows_the_module_that_contains_it():
    network = generator_on(frozen=True).eval()
    train(network)
    assert [network[0][2].training, network[3].training] == [False, True]


def test_a_wholly_frozen_network_in_eval_mode_stays_there(make_trainer):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Dropout(), nn.Flatten(0)).requires_grad_(False).eval()
    trainer = make_trainer(discriminator=critic, discriminator_optimizer=torch.optim.SGD(critic.parameters()))
    assert not any(modes(trainer.discriminator))
    trainer.state.restore_train_mode()
    assert not any(modes(trainer.discriminator))


def test_a_network_that_holds_a_part_in_eval_mode_itself_is_asked_to(make_trainer, batches):
    class Holds(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    G = Holds(*generator_on(frozen=False))
    mean = G[2].running_mean.clone()
    trainer = make_trainer(Holds(G[0], *G[2:4], *G[4:]))
    trainer.fit(batches, steps=2).generator.eval()
    trainer.fit(batches, steps=4)
    assert torch.equal(G[2].running_mean, mean)


def left_in_eval_mode(trainer):
    trainer.generator.eval()
    trainer.discriminator.eval()


@pytest.mark.parametrize("execution", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", ["fit", "step", "callback"])
def test_a_network_that_was_left_in_eval_mode_trains_as_if_it_had_not(make_trainer, batches, execution, way):
    class LeavesInEvalMode:
        every = 1

        def __call__(self, trainer):
            left_in_eval_mode(trainer)

    def trained(disturb):
        callbacks = [LeavesInEvalMode()] if disturb and way == "callback" else []
        trainer = make_trainer(execution=execution, callbacks=callbacks)
        for index in range(3):
            trainer.fit(batches, steps=index + 1) if way != "step" else trainer.step(batches[index])
            if disturb and way != "callback":
                left_in_eval_mode(trainer)
        return trainer

    plain, disturbed = trained(disturb=False), trained(disturb=True)
    assert same(weights(plain.generator), weights(disturbed.generator))
    assert same(weights(plain.discriminator), weights(disturbed.discriminator))


def test_a_layer_that_a_callback_holds_in_eval_mode_stays_there(make_trainer, batches):
    class Holds:
        every = 1

        def __call__(self, trainer):
            trainer.generator[1].eval()

    trainer = make_trainer(callbacks=[Holds()]).fit(batches, steps=1)
    mean = trainer.generator[1].running_mean.clone()
    trainer.fit(batches, steps=3)
    assert torch.equal(trainer.generator[1].running_mean, mean)


def test_the_modes_belong_to_what_a_compiled_step_is_compiled_for(make_trainer):
    trainer = make_trainer()
    step = step_of(trainer)

    def key():
        step.count_constants()
        return step.signature()

    before = key()
    trainer.generator[1].eval()
    assert key() != before
    trainer.generator[1].train()
    assert key() == before
