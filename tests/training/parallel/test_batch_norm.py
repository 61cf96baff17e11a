"""BatchNorm over all ranks."""

from __future__ import annotations

import numpy
import pytest
import torch
import torch.distributed as dist
from torch import nn

from gankit.training import Ranks, synchronize_batch_norm
from tests.ranks import on_ranks


def normalised(kind: str, size: int):
    """Output, gradient, gradient of the gradient's norm, and statistics of one layer, on a rank's part of x."""
    present = Ranks.present()
    shape = {"1d": (12, 5), "2d": (12, 5, 3, 2), "3d": (12, 5, 2, 2, 2)}[kind]
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random, dtype=torch.float64) * 3 + 5
    weights = torch.randn(shape, generator=random, dtype=torch.float64)
    parts = slice(None) if present.size < size else slice(present.rank * 12 // size, (present.rank + 1) * 12 // size)
    x, weights = x[parts].requires_grad_(), weights[parts]
    layer = getattr(nn, f"BatchNorm{kind}")(5, dtype=torch.float64)
    nn.init.uniform_(layer.weight, generator=random)
    layer = synchronize_batch_norm(layer)
    y = layer(x)
    [gradient] = torch.autograd.grad((y * weights).sum(), x, create_graph=True)
    second, of_weight = torch.autograd.grad((gradient.square() * weights).sum(), [x, layer.weight])
    of_weight = of_weight.clone()
    if present.size > 1:
        dist.all_reduce(of_weight)
    layer(x.detach() * 2)
    layer.eval()
    found = (y, gradient, second, of_weight, layer.running_mean, layer.running_var, layer(x))
    return [one.detach().numpy() for one in found], int(layer.num_batches_tracked)


KINDS = ("1d", "2d", "3d")


def all_normalised(size):
    return {kind: normalised(kind, size) for kind in KINDS}


@pytest.fixture(scope="module")
def results_of_three_ranks():
    """What every kind of layer gives on each of three ranks."""
    return on_ranks(3, all_normalised, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_synchronised_batch_norm_and_its_derivatives_are_those_of_all_samples(kind, results_of_three_ranks):
    (y, gradient, second, of_weight, mean, variance, evaluated), count = normalised(kind, 3)
    parts = [one[kind] for one in results_of_three_ranks]
    for i, whole in enumerate((y, gradient, second)):
        together = numpy.concatenate([part[0][i] for part in parts])
        assert abs(together - whole).max() < 1e-12 * abs(whole).max() + 1e-12
    assert abs(numpy.concatenate([part[0][6] for part in parts]) - evaluated).max() < 1e-12
    for part, tracked in parts:
        assert tracked == count == 2
        for i, whole in ((3, of_weight), (4, mean), (5, variance)):
            assert abs(part[i] - whole).max() < 1e-12 * abs(whole).max()


def in_lower_precision():
    layer = synchronize_batch_norm(nn.BatchNorm1d(2))
    x = torch.tensor([[1.0, 1e4]], dtype=torch.bfloat16) * (1 + Ranks.present().rank)
    return str(layer(x).dtype), layer(x).float().detach().numpy()


def test_synchronised_batch_norm_keeps_the_type_and_counts_in_float32():
    outcomes = on_ranks(2, in_lower_precision)
    assert [name for name, _ in outcomes] == ["torch.bfloat16"] * 2
    assert abs(outcomes[0][1] + outcomes[1][1]).max() == 0  # one lies as far below the mean as the other above


def test_a_layer_with_two_names_is_replaced_by_one_layer():
    norm = nn.BatchNorm1d(2)
    network = nn.Sequential(norm, nn.ReLU(), norm, nn.Sequential(norm))
    synchronize_batch_norm(network)
    assert type(network[0]) is not nn.BatchNorm1d
    assert network[0] is network[2] is network[3][0]
    assert network[0].weight is norm.weight
