"""What the trainer costs over the same loop written by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, spread
from gankit.presets import vanilla_mnist
from gankit.training.modes import frozen

ROUNDS, STEPS, WARMUP = 40, 10, 2
LIMIT = 1.03


def loop_by_hand(device: torch.device):
    """`STEPS` steps of `vanilla_mnist`, with its networks and its batches, in plain PyTorch."""
    trainer = vanilla_mnist(device=device)
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
        with frozen(D):
            logits = D(G(torch.randn(len(real), 10, generator=noise, device=device))).squeeze(1)
            loss_G = F.softplus(-logits).mean()
            optimizer_G.zero_grad()
            loss_G.backward()
            optimizer_G.step()

    def steps():
        for _ in range(STEPS):
            step()

    return steps


def trainer_steps(device: torch.device):
    """The same through `fit`, its logs included."""
    trainer = vanilla_mnist(device=device)
    batches = vanilla_mnist.batches(device=device)
    return lambda: trainer.fit(batches, steps=trainer.steps_done + STEPS)


def test_the_trainer_costs_at_most_three_percent_over_the_loop_by_hand(device, table):
    seconds = interleaved(
        {"by hand": loop_by_hand(device), "trainer": trainer_steps(device)},
        device,
        rounds=ROUNDS,
        calls=1,
        warmup=WARMUP,
    )
    ratios = [ours / theirs for ours, theirs in zip(seconds["trainer"], seconds["by hand"], strict=True)]
    table.lines += ["", f"vanilla_mnist, batch 128, float32, {ROUNDS} interleaved rounds of {STEPS} steps", ""]
    table.lines += ["| what | median | quartiles |", "|---|---|---|"]
    for name, values in seconds.items():
        low, middle, high = (1e3 * value / STEPS for value in spread(values))
        table.lines.append(f"| {name} | {middle:.2f} ms a step | {low:.2f} to {high:.2f} |")
    low, middle, high = spread(ratios)
    table.lines.append(f"| trainer / by hand | {middle:.3f} | {low:.3f} to {high:.3f} |")
    assert middle <= LIMIT
