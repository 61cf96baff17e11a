"""Steps of the preset against the same training written by hand in plain PyTorch, to the last bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit import LossSchedule
from gankit.presets import vanilla_mnist
from gankit.seeds import stream_seed

STEPS = 20  # the long version: 200
TURN = 8  # where the schedule goes over to another loss
SMALL = vanilla_mnist.replace(batch_size=16)


def generator_block(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


def discriminator_block(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LeakyReLU(0.2))


def networks_by_hand():
    G = nn.Sequential(
        generator_block(10, 128),
        generator_block(128, 256),
        generator_block(256, 512),
        generator_block(512, 1024),
        nn.Linear(1024, 784),
        nn.Sigmoid(),
    )
    D = nn.Sequential(
        discriminator_block(784, 512),
        discriminator_block(512, 256),
        discriminator_block(256, 128),
        nn.Linear(128, 1),
    )
    return G, D


def train_by_hand(G, D, batches, noise, generator_loss_at, discriminator_steps, steps):
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    optimizer_G = torch.optim.Adam(G.parameters(), **adam)
    optimizer_D = torch.optim.Adam(D.parameters(), **adam)
    losses = []

    def endless():
        while True:
            yield from batches

    stream = endless()
    for step in range(steps):
        for _ in range(discriminator_steps):
            real = next(stream).flatten(1)
            z = torch.randn(len(real), 10, generator=noise)
            with torch.no_grad():
                fake = G(z)
            real_logits, fake_logits = D(real).squeeze(1), D(fake).squeeze(1)
            loss_D = (F.softplus(-real_logits) + F.softplus(fake_logits)).mean()
            optimizer_D.zero_grad()
            loss_D.backward()
            optimizer_D.step()
        z = torch.randn(len(real), 10, generator=noise)
        logits = D(G(z)).squeeze(1)
        elementwise = F.softplus(-logits) if generator_loss_at(step) == "non_saturating" else -F.softplus(logits)
        loss_G = elementwise.mean()
        optimizer_G.zero_grad()
        loss_G.backward()
        optimizer_G.step()
        losses.append((loss_D.item(), loss_G.item()))
    return losses


CASES = {
    "non_saturating": ("non_saturating", lambda step: "non_saturating", 1),
    "minimax": ("minimax", lambda step: "minimax", 1),
    "two discriminator steps": ("non_saturating", lambda step: "non_saturating", 2),
    "schedule": (
        LossSchedule({0: "non_saturating", TURN: "minimax"}),
        lambda step: "non_saturating" if step < TURN else "minimax",
        1,
    ),
}
# the first case has the batches of the preset, and the others small ones, except in the long version
RUNS = [
    *[pytest.param(case, STEPS, vanilla_mnist if case == "non_saturating" else SMALL, id=case) for case in CASES],
    *[pytest.param(case, 200, vanilla_mnist, marks=pytest.mark.slow, id=f"{case}, long") for case in CASES],
]


@pytest.mark.parametrize(("case", "steps", "preset"), RUNS)
def test_the_preset_equals_the_loop_written_by_hand(case, steps, preset):
    loss, generator_loss_at, discriminator_steps = CASES[case]
    trainer = preset(loss=loss, discriminator_steps=discriminator_steps, device="cpu", seed=3, log_every_steps=1)
    G, D = networks_by_hand()
    G.load_state_dict(trainer.generator.network.state_dict())
    D.load_state_dict(trainer.discriminator.network.state_dict())
    noise = torch.Generator().manual_seed(stream_seed(3, "training noise"))

    by_hand = train_by_hand(
        G, D, preset.batches(device="cpu", seed=3), noise, generator_loss_at, discriminator_steps, steps
    )
    trainer.fit(preset.batches(device="cpu", seed=3), steps=steps)

    ours = [(row["discriminator_loss"], row["generator_loss"]) for row in trainer.history]
    assert ours == by_hand
    for network, hand in ((trainer.generator, G), (trainer.discriminator, D)):
        for name, value in hand.state_dict().items():
            assert torch.equal(network.network.state_dict()[name], value), name
