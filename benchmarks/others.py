"""The same training in other libraries, if they are installed, following their own examples.

Each of them trains the same networks with the same Adam, on batches from the tutorial's `DataLoader`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.row import Row
from benchmarks.scripts import Networks, loaded, loader, tutorial
from benchmarks.timing import Contender


def why_unusable(package: str, version: str | None = None) -> str | None:
    """Return why a package cannot take part, or None if it can."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed"
    if version is not None and found != version:
        return f"{package} {found} is installed, not {version}"
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - an old package against a new torch can fail in any way
        return f"{package} {found} cannot be imported: {type(error).__name__}: {error}"
    return None


def accelerate_loop(row: Row, device: torch.device) -> Contender:
    """Return the tutorial's loop over objects that Accelerate has prepared; the library has no loop of its own."""
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=device.type == "cpu")
    networks, batches = Networks(row, device), loader(row)
    (
        networks.generator,
        networks.discriminator,
        networks.generator_optimizer,
        networks.discriminator_optimizer,
        batches,
    ) = accelerator.prepare(
        networks.generator,
        networks.discriminator,
        networks.generator_optimizer,
        networks.discriminator_optimizer,
        batches,
    )
    endless = (real for _ in itertools.count() for real, _ in batches)
    return tutorial(row, networks, endless, backward=accelerator.backward)


def lightning_loop(row: Row, device: torch.device) -> Contender:
    """Return Lightning's own GAN example: manual optimization, `toggle_optimizer`, both losses logged in each step."""
    lightning: Any = importlib.import_module("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    networks = Networks(row, device)

    class GAN(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.discriminator = networks.generator, networks.discriminator

        def configure_optimizers(self) -> Any:
            return [networks.generator_optimizer, networks.discriminator_optimizer], []

        def training_step(self, batch: Any) -> None:
            real = networks.shaped(batch[0])
            optimizer_G, optimizer_D = self.optimizers()
            z = torch.randn(len(real), row.latent_dim).type_as(real)
            self.toggle_optimizer(optimizer_G)
            logits = self.discriminator(self.generator(z))
            loss_G = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            self.log("g_loss", loss_G, prog_bar=True)
            self.manual_backward(loss_G)
            optimizer_G.step()
            optimizer_G.zero_grad()
            self.untoggle_optimizer(optimizer_G)
            self.toggle_optimizer(optimizer_D)
            logits = self.discriminator(real)
            loss_real = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            logits = self.discriminator(self.generator(z).detach())
            loss_D = (loss_real + F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))) / 2
            self.log("d_loss", loss_D, prog_bar=True)
            self.manual_backward(loss_D)
            optimizer_D.step()
            optimizer_D.zero_grad()
            self.untoggle_optimizer(optimizer_D)

    class Watch(lightning.Callback):
        """Measures the time from the first batch to the last, without what `fit` does before and after them."""

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                # the first batch has been loaded already, so its step is not measured
                self.start = None

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.start is None or batch_idx == trainer.num_training_batches - 1:
                _wait(device)
            if self.start is None:
                self.start = time.perf_counter()
            self.end = time.perf_counter()

    gan, watch, batches = GAN(), Watch(), loader(row)

    def steps(count: int) -> float:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            trainer = lightning.Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                max_epochs=1,
                limit_train_batches=count + 1,
                callbacks=[watch],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(gan, batches)
        return watch.end - watch.start

    return steps


def torchgan_loop(row: Row, device: torch.device) -> Contender:
    """Return torchgan's `Trainer` with its minimax losses (by default non-saturating); a block of steps is an epoch."""
    with warnings.catch_warnings(action="ignore"):
        models: Any = importlib.import_module("torchgan.models")
        losses: Any = importlib.import_module("torchgan.losses")
        trainers: Any = importlib.import_module("torchgan.trainer")
    networks = Networks(row, device)

    class Generator(models.Generator):
        def __init__(self) -> None:
            super().__init__(encoding_dims=row.latent_dim)
            self.network = networks.generator

        def forward(self, z: Any) -> Any:
            return self.network(z)

    class Discriminator(models.Discriminator):
        def __init__(self) -> None:
            super().__init__(input_dims=1)
            self.network = networks.discriminator

        def forward(self, x: Any) -> Any:
            return self.network(networks.shaped(x))

    class Epoch:
        """An epoch of a given number of batches that measures its own time, from the first request to the end."""

        batch_size = row.batch_size

        def __init__(self, batches: Iterator[Any], count: int) -> None:
            self.batches, self.count = batches, count

        def __iter__(self) -> Iterator[Any]:
            _wait(device)
            start = time.perf_counter()
            yield from itertools.islice(self.batches, self.count)
            _wait(device)
            self.seconds = time.perf_counter() - start

    optimizer = {"name": torch.optim.Adam, "args": {"lr": 2e-4, "betas": (0.5, 0.999)}}
    trainer = trainers.Trainer(
        {
            "generator": {"name": Generator, "optimizer": optimizer},
            "discriminator": {"name": Discriminator, "optimizer": optimizer},
        },
        [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()],
        device=device,
        epochs=1,
        sample_size=1,
    )
    batches = loaded(row, device)
    trainer.logger.logger_end_epoch.clear()  # pictures at the end of an epoch, which need a shape

    def steps(count: int) -> float:
        epoch = Epoch(batches, count)
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            trainer(epoch)
        return epoch.seconds

    return steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


OTHERS = {
    "torchgan": (torchgan_loop, "0.1.0"),
    "lightning": (lightning_loop, None),
    "accelerate": (accelerate_loop, None),
}
"""For each package the function that builds the contender, and the version that is required, or None for any."""
