"""Several processes train one discriminator, and weights that drift apart are found."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gankit.adversary import Adversary
from gankit.adversary.wrapped import checksum
from gankit.errors import DistributedError
from gankit.regularizers import R1
from tests.ranks import on_ranks

STEPS = 4


def networks(norm: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    G = nn.Linear(4, 4)
    D = nn.Sequential(nn.Linear(4, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.Tanh(), nn.Linear(8, 1))
    return G.double(), D.double()


def data(step: int, micro: int = 0) -> torch.Tensor:
    return torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(10 * step + micro))


def trained(wrap, share, *, accumulate: int = 1, norm: bool = False, past: bool = False) -> list[torch.Tensor]:
    """Train on the rows `share` of each batch; return the weights of G and D."""
    G, D = networks(norm)
    wrapped_G, wrapped_D = wrap(G), wrap(D)
    adversary = Adversary(D if past else wrapped_D, loss="hinge", regularizers=[R1(weight=0.5, every=2)])
    of_G, of_D = torch.optim.Adam(G.parameters(), 1e-2), torch.optim.Adam(D.parameters(), 1e-2)
    for step in range(STEPS):
        of_G.zero_grad()
        of_D.zero_grad()
        for micro in range(accumulate):
            x = data(step, micro)[share]
            y = wrapped_G(x)
            term = adversary.generator_loss(fake=y, real=x, step=step)
            (((y - x).square().mean() + 0.1 * term) / accumulate).backward()
            (adversary.discriminator_loss(real=x, fake=y, step=step) / accumulate).backward()
        of_G.step()
        of_D.step()
    return [parameter.detach() for network in (G, D) for parameter in network.parameters()]


def on_this_rank(accumulate, norm):
    rank = dist.get_rank()
    wrap = DistributedDataParallel
    return trained(wrap, slice(rank * 4, rank * 4 + 4), accumulate=accumulate, norm=norm)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_processes_equal_one_with_twice_the_batch(accumulate):
    first, second = on_ranks(2, on_this_rank, accumulate, False)
    alone = trained(lambda network: network, slice(None), accumulate=accumulate)
    for one, two, three in zip(first, second, alone, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, three, rtol=1e-9, atol=1e-9)


def test_buffers_that_the_wrapper_broadcasts_do_not_disturb_the_backward_pass():
    first, second = on_ranks(2, on_this_rank, 1, True)
    assert all(map(torch.equal, first, second))


def past_the_wrapper():
    rank = dist.get_rank()
    with pytest.raises(DistributedError, match="weights of the discriminator differ between the ranks.*wrapper"):
        trained(DistributedDataParallel, slice(rank * 4, rank * 4 + 4), past=True)
    return True


def test_a_discriminator_that_is_called_past_its_wrapper_is_found():
    assert on_ranks(2, past_the_wrapper) == [True, True]


def accumulated_past_the_wrapper():
    rank = dist.get_rank()
    with pytest.raises(DistributedError, match="differ between the ranks"):
        trained(DistributedDataParallel, slice(rank * 4, rank * 4 + 4), past=True, accumulate=8)
    return True


def test_drift_is_found_although_the_first_calls_only_accumulate():
    assert on_ranks(2, accumulated_past_the_wrapper) == [True, True]


class WithFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def features(self, x, condition=None):
        return self.hidden(x).tanh()

    def forward(self, x, condition=None):
        return self.last(self.features(x))


def matched():
    torch.manual_seed(0)
    D, x = WithFeatures(), torch.randn(4, 4)
    return [
        Adversary(one, regularizers=["feature_matching"]).generator_loss(fake=-x, real=x).item()
        for one in (D, DistributedDataParallel(D))
    ]


def test_features_are_found_through_the_wrapper():
    ((bare, wrapped),) = on_ranks(1, matched)
    assert wrapped == bare


def sharded():
    """Train D alone, whole and with its parameters divided among the ranks."""
    outcomes = []
    for shard in (fully_shard, DistributedDataParallel):
        _, D = networks()
        D = shard(D, mesh=init_device_mesh("cpu", (2,))) if shard is fully_shard else shard(D)
        adversary = Adversary(D, freeze=shard is not fully_shard)
        optimizer = torch.optim.SGD(D.parameters(), 0.1)
        y, rows = data(99)[:4].requires_grad_(), slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
        losses = []
        for step in range(STEPS):
            losses.append(adversary.generator_loss(fake=y, real=data(step)[rows]))
            losses[-1].backward()
            optimizer.zero_grad()  # without freezing, the generator's half has left gradients in D
            losses.append(adversary.discriminator_loss(real=data(step)[rows], fake=y))
            losses[-1].backward()
            optimizer.step()
        outcomes.append(torch.stack(losses).tolist())
    return outcomes


def test_a_sharded_discriminator_is_trained_without_freezing():
    for divided, whole in on_ranks(2, sharded):
        assert divided == pytest.approx(whole)


def test_the_checksum_sees_any_change():
    _, D = networks()
    before = checksum(D)
    with torch.no_grad():
        D[0].weight[0, 0] += 1e-3
        D[0].weight[0, 1] -= 1e-3
    assert abs(checksum(D) - before) > 1e-6


def averages_of(rows: slice) -> list[torch.Tensor]:
    """LeCam's averages after two updates on the rows of each batch."""
    _, D = networks()
    adversary = Adversary(D, regularizers=["lecam"], discriminator_start=0, generator_start=0)
    for step in range(2):
        x = data(step)[rows]
        adversary.discriminator_loss(real=x, fake=x.flip(1), step=step)
    return [one for one in adversary.buffers() if one.is_floating_point()]


def averages_on_this_rank() -> list[torch.Tensor]:
    rank = dist.get_rank()
    return averages_of(slice(rank * 4, rank * 4 + 4))


def test_the_averages_of_a_penalty_are_those_of_the_whole_batch():
    expected = averages_of(slice(0, 8))
    assert len(expected) == 2
    for found in on_ranks(2, averages_on_this_rank):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
