"""Hooks on parameters, layers and optimizers are called as in a loop by hand, or the way to run steps gives way."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, ExecutionWarning
from gankit.training import Stacked
from gankit.training.execution.hooks import HookWatch
from gankit.training.step.gradients import put_gradients
from tests.training import steps
from tests.training.observing import weights
from tests.training.step.test_frozen import Loop
from tests.training.steps import small_networks

make = partial(steps.make, dtype=torch.float64, optimizer=partial(torch.optim.SGD, lr=0.5))
make_batches = partial(steps.make_batches, dtype=torch.float64)
BOUND = 1e-3


def after_accumulation(network, calls):
    def clamp(parameter):
        calls.append(parameter)
        parameter.grad.clamp_(-BOUND, BOUND)

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(clamp)


def on_gradients(network, calls):
    def clamped(gradient):
        calls.append(gradient)
        return gradient.clamp(-BOUND, BOUND)

    for parameter in network.parameters():
        parameter.register_hook(clamped)


def on_layers(network, calls):
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda *_: calls.append(1))


KINDS = {"after accumulation": after_accumulation, "on gradients": on_gradients, "on layers": on_layers}


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("half", ["generator", "discriminator"])
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_act_as_in_the_loop_by_hand(kind, half, execution, traced_only):
    trainer, hand = make(execution), make()
    data, by_hand, calls = make_batches(), Loop(hand), []
    trainer.fit(data, steps=2)
    for real in data[:2]:
        by_hand(real)
    for one in (trainer, hand):
        KINDS[kind](getattr(one, half), calls if one is trainer else [])
    warning = pytest.warns(ExecutionWarning, match="has a hook") if execution == "compile" else nullcontext()
    with warning:  # what was compiled before the hooks existed is not used any more
        trainer.fit(data, steps=4)
    for real in data[2:]:
        by_hand(real)
    assert calls
    for ours, theirs in ((trainer.generator, hand.generator), (trainer.discriminator, hand.discriminator)):
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0 if execution == "eager" else 1e-12)


def test_gradients_that_are_one_tensor_are_clipped_once():
    first, second, third = (nn.Parameter(torch.ones(2, 3)) for _ in range(3))
    gradient = torch.ones(2, 3)
    put_gradients([first, second, third], [gradient, gradient, gradient.view(-1).view(2, 3)])
    for parameter in (first, second, third):
        parameter.grad.mul_(2)
    assert all(parameter.grad.eq(2).all() for parameter in (first, second, third))


def test_a_sparse_gradient_stays_sparse():
    layer = nn.Embedding(4, 2, sparse=True)
    gradients = torch.autograd.grad(layer(torch.tensor([1])).sum(), [layer.weight])
    put_gradients([layer.weight], gradients)
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert layer.weight.grad.is_sparse


def test_replicas_of_parameters_with_hooks_are_refused():
    layers = [nn.Linear(2, 1) for _ in range(2)]
    layers[0].weight.register_hook(lambda gradient: gradient)
    with pytest.raises(BadArgumentsError, match="copies of their parameters, which have no hooks"):
        Stacked(layers)


# --- which hooks there are -----------------------------------------------------------------------------------

REGISTER = {
    "forward": lambda t: t.generator.network[0].register_forward_hook(print),
    "forward_pre": lambda t: t.discriminator.register_forward_pre_hook(print),
    "backward": lambda t: t.discriminator.register_full_backward_hook(print),
    "backward_pre": lambda t: t.generator.register_full_backward_pre_hook(print),
    "gradient": lambda t: next(t.generator.parameters()).register_hook(print),
    "accumulated": lambda t: next(t.discriminator.parameters()).register_post_accumulate_grad_hook(print),
    "global": lambda t: nn.modules.module.register_module_forward_hook(lambda *_: None),
    "optimizer": lambda t: t.generator_optimizer.register_step_post_hook(print),
}


@pytest.mark.parametrize("kind", REGISTER)
def test_every_kind_of_hook_is_found_once_it_is_registered(kind):
    trainer = make()
    watch = HookWatch(trainer.state)
    assert watch.found() is None
    with REGISTER[kind](trainer):
        assert re.search("has a hook|a hook is registered for all modules", watch.found())


def test_hooks_of_a_network_that_is_put_in_later_are_found():
    trainer = make()
    watch = HookWatch(trainer.state)
    other, _ = small_networks()
    other.register_forward_hook(print)
    assert watch.found() is None
    trainer.generator = other
    assert "has a hook" in watch.found()


def test_hooks_of_torch_itself_are_part_of_the_network():
    def networks(classes, dtype):
        G, D = small_networks(classes, dtype)
        nn.utils.spectral_norm(D.network[-1])
        return G, D

    assert HookWatch(make(networks=networks).state).found() is None
