"""The run on fake tensors leaves networks of every kind as they were."""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections import Counter, deque

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gankit.errors import BadArgumentsError
from gankit.training.step.dry_run import dry_run


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Aliased(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = self.first
        self.last = nn.Linear(4, 3)

    def forward(self, z):
        return self.last(self.second(self.first(z)))


class Tied(Aliased):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight


class Storing(Aliased):
    """A network that stores things of every kind while it runs."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("mean", torch.zeros(4))
        self.plain = torch.zeros(3)
        self.kept = [torch.zeros(1)]
        self.seen, self.recent, self.counter = {}, deque(maxlen=2), Counter()
        self.tracker = Tracker()
        self.unregistered = [nn.BatchNorm1d(4)]
        self.prior = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))

    def forward(self, z):
        self.calls += 1
        self.mean = z.mean(0)
        self.plain.add_(1)
        self.kept[0].mul_(2)
        self.kept.append(z)
        self.seen["z"] = z
        self.recent.append(z)
        self.counter["z"] += 1
        self.tracker.update(z)
        self.last.weight.requires_grad_(False)
        self.last.weight.data = self.last.weight.data.clamp(-1, 1)
        self.first.eval()
        self.added = nn.Parameter(z[0])
        self.register_buffer("created", z[0])
        return super().forward(self.unregistered[0](z)) + self.prior.precision_matrix[0]


class Tracker:
    def __init__(self):
        self.mean = torch.zeros(4)

    def update(self, x):
        self.mean.add_(1)
        self.newest = x


def with_hooks():
    """Return a network with a hook that is an object, one that has enclosed a list, a partial and a bound method."""

    class Hook:
        newest = None

        def __call__(self, layer, inputs, output):
            self.newest = output

        def method(self, layer, inputs):
            self.inputs = inputs

    network, outputs, hook = mlp(), [], Hook()
    network.register_forward_hook(hook)
    network[0].register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    network[3].register_forward_hook(functools.partial(lambda kept, *arguments: kept.update(enumerate(arguments)), {}))
    network[3].register_forward_pre_hook(hook.method)
    return network


def normalised(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's older functions
        return nn.Sequential(norm(nn.Linear(4, 8)), nn.ReLU(), norm(nn.Linear(8, 3)))


class Failing(Storing):
    def forward(self, z):
        raise KeyError(super().forward(z).shape)


NETWORKS = {
    "plain": mlp,
    "aliased": Aliased,
    "tied": Tied,
    "storing": Storing,
    "hooks": with_hooks,
    "old spectral norm": lambda: normalised(nn.utils.spectral_norm),
    "spectral norm": lambda: normalised(nn.utils.parametrizations.spectral_norm),
    "old weight norm": lambda: normalised(nn.utils.weight_norm),
    "weight norm": lambda: normalised(nn.utils.parametrizations.weight_norm),
    "compiled": lambda: torch.compile(mlp(), backend=refuse),
    "compiled inside": lambda: nn.Sequential(torch.compile(nn.Linear(4, 3), backend=refuse)),
    "frozen": lambda: mlp().requires_grad_(False).eval(),
    "failing": Failing,
}


def refuse(graph, inputs):
    raise AssertionError("nothing is compiled for fake tensors")


def contents(one, depth=0):
    """Return what an object holds, in depth, by identity, with the values of tensors."""
    if isinstance(one, torch.Tensor):
        return id(one), type(one), one.requires_grad, one.detach().clone().tolist()
    if isinstance(one, dict):
        return [(key, contents(value, depth + 1)) for key, value in one.items()]
    if isinstance(one, (list, tuple, deque)):
        return id(one) if isinstance(one, tuple) else 0, [contents(value, depth + 1) for value in one]
    if getattr(one, "__closure__", None):
        return [contents(cell.cell_contents, depth + 1) for cell in one.__closure__]
    if isinstance(one, functools.partial):
        return contents(one.args)
    if depth < 8 and isinstance(one, (nn.Module, Tracker, torch.distributions.Distribution)):
        return id(one), contents(vars(one), depth + 1)
    if type(one).__name__ == "Hook":
        return contents(vars(one))
    return one if isinstance(one, (bool, int, str)) else id(one)


def run(network):
    mode = FakeTensorMode()
    with mode:
        z = torch.empty(5, 4)
    return dry_run(mode, network, z)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_as_it_was(kind):
    torch.manual_seed(0)
    network = NETWORKS[kind]()
    before, random = contents(network), torch.get_rng_state()
    if kind == "failing":
        with pytest.raises(KeyError, match=r"\[5, 3\]"):
            run(network)
    else:
        assert run(network).shape == (5, 3)
    assert contents(network) == before
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("kind", ["aliased", "tied", "storing", "hooks", "old spectral norm", "old weight norm"])
def test_an_odd_network_can_be_used_after_a_trainer_was_made_of_it(make_trainer, kind):
    torch.manual_seed(0)
    network = NETWORKS[kind]()
    make_trainer(nn.Sequential(network, nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4))), latent=Fixed())
    network(torch.randn(5, 4)).sum().backward()
    assert any(one.grad is not None for one in network.parameters())


class Fixed:
    shape = (4,)

    def __call__(self, count, *, generator, device):
        return torch.zeros(count, 4, device=device)


def test_what_a_network_knows_of_the_training_is_not_touched():
    network = mlp()
    samples, optimizer = [torch.zeros(2)], torch.optim.Adam(network.parameters())
    loader = torch.utils.data.DataLoader(samples)
    network.others = [loader, optimizer]
    tensors = [*samples, *network.parameters()]

    class Watching(nn.Module):
        def forward(self, z):
            held = [*loader.dataset, *optimizer.param_groups[0]["params"]]
            assert all(one is other for one, other in zip(held, tensors, strict=True))
            return z

    network.append(Watching())
    assert run(network).shape == (5, 3)


def test_a_lazy_network_is_refused_before_anything_else(make_trainer):
    lazy = nn.Sequential(nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.Unflatten(1, (1, 4, 4)))
    before = copy.copy(vars(lazy[0]))
    with pytest.raises(BadArgumentsError, match=r"got 0\.weight of a lazy layer; run one batch through the network"):
        make_trainer(lazy)
    assert vars(lazy[0]) == before
    lazy(torch.zeros(2, 3))
    make_trainer(lazy)


def test_a_scripted_network_is_left_to_the_first_batch(make_trainer, batches):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        G = torch.jit.script(nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4))))
    before = {key: value.clone() for key, value in G.state_dict().items()}
    trainer = make_trainer(G)
    assert all(torch.equal(before[key], value) for key, value in G.state_dict().items())
    assert trainer.fit(batches, steps=2).steps_done == 2


def test_torch_logs_again_after_the_run():
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    with pytest.raises(RuntimeError):
        run(nn.Linear(3, 3))
    assert not logger.disabled


def test_tensors_are_put_back_if_a_fake_cannot_be_made(monkeypatch):
    network, original = Aliased(), FakeTensorMode.from_tensor
    before = contents(network)

    def from_tensor(mode, tensor):
        if tensor is network.last.bias:
            raise NotImplementedError
        return original(mode, tensor)

    monkeypatch.setattr(FakeTensorMode, "from_tensor", from_tensor)
    with pytest.raises(NotImplementedError):
        run(network)
    assert contents(network) == before
