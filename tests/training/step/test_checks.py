"""Networks and optimizers that do not fit are refused before anything is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, DeviceError, ShapeError
from tests.training.observing import same, weights
from tests.training.steps import SHAPE


def test_networks_that_do_not_fit_the_latent_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the generator Sequential does not fit inputs of shape \(2, 3\)"):
        make_trainer(nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, SHAPE)))


def test_networks_that_do_not_fit_each_other_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the discriminator Sequential does not fit inputs of shape \(2, 1, 4, 4\)"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(20, 1), nn.Flatten(0)))


def test_logits_that_are_not_n_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"logits of shape \(2,\) for 2 samples, got \(2, 1\); \(N, 1\) becomes"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1)))


def test_without_a_latent_shape_they_are_refused_at_the_first_batch(make_trainer, batches):
    def latent(count, *, generator, device):
        return torch.randn(count, 3, generator=generator, device=device)

    trainer = make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), latent=latent)
    with pytest.raises(ShapeError, match=r"logits of shape \(6,\) for 6 samples, got \(6, 1\)"):
        trainer.step(batches[0])
    with pytest.raises(ShapeError, match=r"real samples' shape \(6, 2, 2\), got \(6, 1, 4, 4\)"):
        make_trainer(latent=latent).step(torch.randn(6, 2, 2))


def test_the_check_of_shapes_leaves_no_trace(make_trainer):
    G = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Unflatten(1, SHAPE))
    before = weights(G)

    class Latent:
        shape = (3,)

        def __call__(self, count, *, generator, device):
            raise AssertionError("no draw from the latent")

    trainer = make_trainer(G, latent=Latent())
    assert same(before, weights(trainer.generator))


def test_the_check_of_shapes_moves_no_default_generator(make_trainer):
    from gankit.training.step.checks import check_shapes

    G = nn.Sequential(nn.Linear(3, 16), nn.Dropout(), nn.Unflatten(1, SHAPE))
    D = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
    before = torch.get_rng_state()
    check_shapes(G, D, (3,))
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_that_reads_the_host_is_left_to_the_first_batch(make_trainer, batches):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 16)

        def forward(self, z):
            return self.linear(z).unflatten(1, SHAPE) * float(z.abs().max().item() > 0)

    assert make_trainer(Reads()).fit(batches, steps=2).steps_done == 2


def test_an_optimizer_of_another_network_is_refused(make_trainer):
    with pytest.raises(BadArgumentsError, match="must hold the generator's parameters, got 2 of 2 that are not"):
        make_trainer(generator_optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))


def test_networks_on_two_devices_are_refused(make_trainer):
    with pytest.raises(DeviceError, match="one device, got cpu and meta"):
        make_trainer(
            discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1, device="meta"), nn.Flatten(0)),
        )
