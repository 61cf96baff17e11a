"""The script that gankit is compared with: a tutorial's training loop in plain PyTorch and float32.

It does what tutorials for beginners do: a `DataLoader` over pictures that become tensors one by one, D on real and on
fake samples separately, G's forward pass with its graph in D's half, `fake.detach()`, a default Adam, and `.item()` of
both losses in every step. It computes the same step as gankit, with fresh noise in both halves. The same script with
resident data shows the time without loading.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.row import Row, digits
from benchmarks.timing import Contender


class Pictures(Dataset[Any]):
    """The digits as in torchvision's MNIST: each is a PIL image that becomes a tensor when it is requested."""

    def __init__(self, sample_range: tuple[float, float]) -> None:
        self.pixels, self.labels = digits().samples.squeeze(1), digits().labels
        self.to_tensor = ToTensor()
        self.low, self.high = sample_range

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.to_tensor(Image.fromarray(self.pixels[index].numpy()))
        if (self.low, self.high) != (0.0, 1.0):
            picture = picture * (self.high - self.low) + self.low
        return picture, int(self.labels[index])

    def __len__(self) -> int:
        return len(self.pixels)


def loader(row: Row) -> DataLoader[Any]:
    return DataLoader(Pictures(row.sample_range), batch_size=row.batch_size, shuffle=True, drop_last=True)


def loaded(row: Row, device: torch.device) -> Iterator[Tensor]:
    """Return batches from the loader, without end."""
    batches = loader(row)
    while True:
        for real, _ in batches:
            yield real.to(device)


def resident(row: Row, device: torch.device) -> Iterator[Tensor]:
    """Return batches from a tensor on the device, without end."""
    pictures = digits().samples.to(device).float() / 255
    if row.sample_range != (0.0, 1.0):
        low, high = row.sample_range
        pictures = pictures * (high - low) + low
    while True:
        indices = torch.randperm(len(pictures), device=device)
        for chosen in indices.split(row.batch_size)[: len(pictures) // row.batch_size]:
            yield pictures[chosen]


class Networks:
    """G and D of a row as plain modules, with the optimizers and the noise of the tutorial."""

    def __init__(self, row: Row, device: torch.device) -> None:
        trainer = row.one_trainer(device)
        self.generator: nn.Module = trainer.generator.network
        self.discriminator: nn.Module = trainer.discriminator.network
        self.latent = functools.partial(trainer.latent, generator=None, device=device)
        self.flat = row.preset == "vanilla_mnist"
        settings = {"lr": 2e-4, "betas": (0.5, 0.999)}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), **settings)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), **settings)

    def shaped(self, real: Tensor) -> Tensor:
        return real.view(len(real), -1) if self.flat else real


def vanilla_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    real_loss = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    return real_loss + F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))


def vanilla_generator_loss(fake_logits: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return fake_logits.mean() - real_logits.mean()


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    return -fake_logits.mean()


def r1(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 5 * gradient.flatten(1).pow(2).sum(1).mean()


def wasserstein_gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return 10 * (gradient.flatten(1).norm(dim=1) - 1).pow(2).mean()


LOSSES = {
    "non_saturating": (vanilla_discriminator_loss, vanilla_generator_loss),
    "wasserstein": (wasserstein_discriminator_loss, wasserstein_generator_loss),
}
PENALTIES = {"r1": r1, "wasserstein_gradient_penalty": wasserstein_gradient_penalty}


def tutorial(
    row: Row,
    networks: Networks,
    batches: Iterator[Tensor],
    *,
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Contender:
    """Return the script's training loop for the networks, the loss and the penalty of a row."""
    G, D = networks.generator, networks.discriminator
    discriminator_loss, generator_loss = LOSSES[row.loss]
    penalty = PENALTIES[row.penalty] if row.penalty else None
    losses: list[tuple[float, float]] = []
    done = 0

    def step() -> None:
        for _ in range(row.discriminator_steps):
            real = networks.shaped(next(batches))
            networks.discriminator_optimizer.zero_grad()
            fake = G(networks.latent(len(real)))
            loss_D = discriminator_loss(D(real), D(fake.detach()))
            if penalty is not None and done % row.penalty_every == 0:
                loss_D = loss_D + penalty(D, real, fake.detach()) * row.penalty_every
            backward(loss_D)
            networks.discriminator_optimizer.step()
        networks.generator_optimizer.zero_grad()
        loss_G = generator_loss(D(G(networks.latent(len(real)))))
        backward(loss_G)
        networks.generator_optimizer.step()
        losses.append((loss_D.item(), loss_G.item()))

    def steps(count: int) -> None:
        nonlocal done
        for _ in range(count):
            step()
            done += 1

    return steps


def tutorial_with_loader(row: Row, device: torch.device) -> Contender:
    return tutorial(row, Networks(row, device), loaded(row, device))


def tutorial_with_resident_data(row: Row, device: torch.device) -> Contender:
    return tutorial(row, Networks(row, device), resident(row, device))
