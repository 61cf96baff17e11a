"""Several processes train one discriminator, and weights that drift apart are found."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
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


def test_the_checksum_sees_any_change():
    _, D = networks()
    before = checksum(D)
    with torch.no_grad():
        D[0].weight[0, 0] += 1e-3
        D[0].weight[0, 1] -= 1e-3
    assert abs(checksum(D) - before) > 1e-6
