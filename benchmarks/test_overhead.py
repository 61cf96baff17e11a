"""The time of the trainer compared with the same loop written by hand."""

from __future__ import annotations

import statistics

import torch
import torch.nn.functional as F

from benchmarks.timing import Contender, interleaved, ratios, seconds_per_step
from gankit.presets import vanilla_mnist

WARMUP = 4
LIMIT = 1.02


def loop_by_hand(device: torch.device) -> Contender:
    """Return `vanilla_mnist` in plain PyTorch, with its networks, its optimizers and its batches."""
    trainer = vanilla_mnist(device=device, execution="eager")
    G, D = trainer.generator.network, trainer.discriminator.network
    optimizer_G, optimizer_D = trainer.generator_optimizer, trainer.discriminator_optimizer
    batches = vanilla_mnist.batches(device=device)
    noise = torch.Generator(device).manual_seed(0)

    def endless():
        while True:
            yield from batches

    stream = endless()

    def step():
        real = next(stream).flatten(1)
        with torch.no_grad():
            fake = G(torch.randn(len(real), 10, generator=noise, device=device))
        real_logits, fake_logits = D(real).squeeze(1), D(fake).squeeze(1)
        loss_D = (F.softplus(-real_logits) + F.softplus(fake_logits)).mean()
        optimizer_D.zero_grad()
        loss_D.backward()
        optimizer_D.step()
        D.requires_grad_(False)
        logits = D(G(torch.randn(len(real), 10, generator=noise, device=device))).squeeze(1)
        loss_G = F.softplus(-logits).mean()
        optimizer_G.zero_grad()
        loss_G.backward()
        optimizer_G.step()
        D.requires_grad_(True)

    def steps(count: int) -> None:
        for _ in range(count):
            step()

    return steps


def trainer_steps(device: torch.device) -> Contender:
    """Return the same training by `fit`, logs included."""
    trainer = vanilla_mnist(device=device, execution="eager")
    batches = vanilla_mnist.batches(device=device)
    return lambda count: trainer.fit(batches, steps=trainer.steps_done + count) and None


def test_the_trainer_costs_at_most_two_percent_over_the_loop_by_hand(device, session):
    contenders = {"by hand": loop_by_hand(device), "trainer": trainer_steps(device)}
    for run in contenders.values():
        seconds_per_step(run, WARMUP, device)
    # fit checks the weights after its last step too: shorter rounds would have more checks than a training has
    steps = vanilla_mnist(device=device).check_every_steps
    rounds = 5 if session.fast else 11
    seconds = interleaved(contenders, device, rounds=rounds, steps=dict.fromkeys(contenders, steps))
    session.report.overhead = seconds
    assert statistics.median(ratios(seconds["trainer"], seconds["by hand"])) <= LIMIT
