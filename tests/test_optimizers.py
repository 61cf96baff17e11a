"""Optimizers by name are torch's own, and each takes a step."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn, optim

from gankit import OPTIMIZERS, Spec
from gankit.errors import BadArgumentsError, BadValueError, UnknownNameError
from gankit.optimizers import ReplicaAdam, ScheduledSGD, build_optimizer, with_fused_update

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
EVERY = pytest.mark.parametrize("name", OPTIMIZERS.names())


def small_network(device=CPU):
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).to(device)


def take_a_step(network, optimizer):
    device = next(network.parameters()).device
    network(torch.randn(5, 4, device=device)).square().mean().backward()
    optimizer.step()


@functools.cache
def torch_can_fuse(name, device):
    """Whether torch itself takes `fused=True` for this optimizer on this device."""
    network = small_network(device)
    try:
        take_a_step(network, OPTIMIZERS.build(name, network.parameters(), fused=True))
    except (BadArgumentsError, RuntimeError):
        return False
    return True


@EVERY
def test_a_step_changes_every_weight(name):
    network = small_network()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = OPTIMIZERS.build(name, network.parameters())
    take_a_step(network, optimizer)
    assert isinstance(optimizer, optim.Optimizer)
    for old, new in zip(before, network.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS.names()) - {"replica_adam", "scheduled_sgd"}))
def test_it_is_torchs_class_of_that_name(name):
    factory = OPTIMIZERS.get(name)
    assert factory.__name__.lower() == name
    assert getattr(optim, factory.__name__) is factory


@EVERY
def test_arguments_reach_it(name):
    optimizer = OPTIMIZERS.build(Spec(name, lr=0.125), small_network().parameters())
    assert optimizer.param_groups[0]["lr"] == 0.125


@EVERY
def test_misspelt_arguments_are_refused(name):
    with pytest.raises(BadArgumentsError, match=f"optimizer '{name}'.* got an unexpected argument 'weight_dekay'"):
        OPTIMIZERS.build(name, small_network().parameters(), weight_dekay=0.1)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_those_of_the_papers_are_there(name):
    assert name in OPTIMIZERS


@pytest.mark.parametrize("name", ["lbfgs", "sparseadam", "muon"])
def test_those_that_cannot_train_a_gan_as_they_are_stay_out(name):
    with pytest.raises(UnknownNameError, match=f"unknown optimizer '{name}'"):
        OPTIMIZERS.build(name, small_network().parameters())


@EVERY
def test_the_update_is_fused_just_where_torch_can_on_the_cpu(name):
    spec = with_fused_update(Spec(name, lr=0.1), CPU)
    assert spec == (Spec(name, lr=0.1, fused=True) if torch_can_fuse(name, CPU) else Spec(name, lr=0.1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@EVERY
def test_the_update_is_fused_only_where_torch_can_on_cuda(name):
    if "fused" in with_fused_update(Spec(name), CUDA).arguments:
        assert torch_can_fuse(name, CUDA)


@EVERY
@pytest.mark.parametrize("choice", [{"fused": False}, {"foreach": True}, {"foreach": False}, {"differentiable": True}])
def test_what_a_spec_says_of_its_update_stays(name, choice):
    assert with_fused_update(Spec(name, **choice), CPU) == Spec(name, **choice)


def test_elsewhere_nothing_is_fused():
    assert with_fused_update(Spec("adam"), torch.device("meta")) == Spec("adam")


@pytest.mark.parametrize("name", sorted(name for name in OPTIMIZERS.names() if torch_can_fuse(name, CPU)))
def test_a_fused_step_is_the_plain_step_up_to_rounding(name):
    networks = []
    for spec in (Spec(name), with_fused_update(Spec(name), CPU)):
        torch.manual_seed(0)
        network = small_network()
        optimizer = OPTIMIZERS.build(spec, network.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            take_a_step(network, optimizer)
        networks.append(network)
    torch.testing.assert_close(networks[0].state_dict(), networks[1].state_dict())


# --- an Adam with a rate for each replica ----------------------------------------------------------------


def descend(weights, optimizer, steps=25):
    for step in range(steps):
        optimizer.zero_grad()
        ((weights - 0.1 * step).sin() * weights).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
def test_each_replica_gets_torchs_adam_with_its_own_rate(betas):
    start = torch.randn(3, 4, 2, dtype=torch.float64)
    rates = [1e-1, 1e-3, 0.0]
    stacked = nn.Parameter(start.clone())
    descend(stacked, ReplicaAdam([stacked], lr=rates, betas=betas, eps=1e-6))
    for index, rate in enumerate(rates):
        alone = nn.Parameter(start[index].clone())
        descend(alone, optim.Adam([alone], lr=rate, betas=betas, eps=1e-6))
        torch.testing.assert_close(stacked[index], alone, rtol=1e-12, atol=1e-12)


def test_one_rate_is_for_all():
    stacked, other = (nn.Parameter(torch.ones(3, 2, dtype=torch.float64)) for _ in range(2))
    descend(stacked, ReplicaAdam([stacked], lr=0.01))
    descend(other, ReplicaAdam([other], lr=[0.01] * 3))
    assert torch.equal(stacked, other)


def test_its_state_goes_on_where_it_was():
    whole, first, second = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    descend(whole, ReplicaAdam([whole], lr=[0.1, 0.2]), steps=10)
    optimizer = ReplicaAdam([first], lr=[0.1, 0.2])
    descend(first, optimizer, steps=10)
    again = ReplicaAdam([second], lr=[0.0, 0.0])
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    second.data.copy_(first.data)
    assert torch.equal(first, whole)
    descend(first, optimizer, steps=3)
    descend(second, again, steps=3)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"lr": -0.1}, BadValueError, "lr must be 0 or more, got -0.1"),
        ({"lr": [0.1, -0.2]}, BadValueError, "lr must be 0 or more, got -0.2"),
        ({"lr": [0.1] * 4}, BadArgumentsError, r"one for each replica, got 4 for a parameter of shape \(3, 2\)"),
        ({"betas": (0.5, 1.0)}, BadValueError, r"betas must be two numbers in \[0, 1\), got \(0.5, 1.0\)"),
        ({"lr": ()}, BadValueError, "lr must be one rate, or one for each replica, got none"),
        ({"eps": 0.0}, BadValueError, "eps must be above 0, got 0.0"),
    ],
)
def test_replica_adam_refuses_what_cannot_be(arguments, error, says):
    with pytest.raises(error, match=says):
        ReplicaAdam([nn.Parameter(torch.zeros(3, 2))], **arguments)


# --- SGD with schedules of its learning rate and momentum ------------------------------------------------

SCHEDULE = {"lr": 0.1, "lr_decay": 1.1, "min_lr": 0.03, "momentum": 0.5, "final_momentum": 0.7, "momentum_steps": 10}


def test_its_rates_are_those_of_the_formula():
    weights, optimizer = nn.Parameter(torch.ones(3, dtype=torch.float64)), None
    optimizer = ScheduledSGD([weights], **SCHEDULE)
    w, v = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for step in range(25):  # beyond momentum_steps, and beyond the floor of the rate at step 13
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
        momentum = 0.5 + 0.2 * min(step / 10, 1)
        v = momentum * v - max(0.1 / 1.1**step, 0.03) * 2 * w
        w = w + v
        torch.testing.assert_close(weights.data, w, rtol=1e-12, atol=1e-12)


def test_without_schedules_it_is_torchs_sgd():
    ours, theirs = (nn.Parameter(torch.ones(3, 2, dtype=torch.float64)) for _ in range(2))
    descend(ours, ScheduledSGD([ours], lr=0.01, momentum=0.9))
    descend(theirs, optim.SGD([theirs], lr=0.01, momentum=0.9))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lr": -0.1}, "lr must be 0 or more, got -0.1"),
        ({"min_lr": -0.1}, "min_lr must be 0 or more, got -0.1"),
        ({"lr_decay": 0.9}, "lr_decay must be 1 or more, got 0.9"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"final_momentum": -0.5}, r"final_momentum must be in \[0, 1\), got -0.5"),
        ({"momentum_steps": 0}, "momentum_steps must be above 0, got 0"),
    ],
)
def test_scheduled_sgd_refuses_what_cannot_be(arguments, says):
    with pytest.raises(BadValueError, match=f"^{says}$"):
        build_optimizer(Spec("scheduled_sgd", **arguments), [nn.Parameter(torch.zeros(3, 2))])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (Spec("adam", lr=-1.0), "Invalid learning rate"),
        (Spec("adam", betas=(2.0, 0.9)), "Invalid beta parameter"),
        (Spec("sgd", nesterov=True), "Nesterov momentum requires"),
        (Spec("adam", fused=True, foreach=True), "fused"),
        (Spec("sgd", differentiable=True), "in-place"),
        (Spec("asgd", lambd=-1e6), ""),
    ],
    ids=str,
)
def test_arguments_that_torch_cannot_work_with_are_refused_before_the_training(spec, says):
    with pytest.raises(BadValueError, match=f"^optimizer {spec.name}.* must have arguments it can work with: .*{says}"):
        build_optimizer(spec, small_network().parameters())


@EVERY
def test_trying_the_arguments_leaves_the_parameters_as_they_are(name):
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    optimizer = build_optimizer(Spec(name), network.parameters())
    assert all(held in set(network.parameters()) for held in optimizer.state)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_spec_for_cuda_graphs_is_no_mistake_on_the_cpu():
    assert build_optimizer(Spec("adam", capturable=True), small_network().parameters()).defaults["capturable"]
