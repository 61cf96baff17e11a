"""One row of the table: which training it measures, and on which data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.floors import Work
from benchmarks.timing import Contender
from gankit import AdversarialTrainer
from gankit.data import TensorData, mnist_5k
from gankit.presets import PRESETS
from gankit.registry import Spec

COPIES = 12


@functools.cache
def digits() -> TensorData:
    """Return the bundled digits repeated to 60,000, as many as MNIST has, so that the largest batch fits."""
    data = mnist_5k()
    return TensorData(data.samples.repeat(COPIES, 1, 1, 1), data.labels.repeat(COPIES))


@dataclass(frozen=True)
class Row:
    """One row: a preset with its settings, for one batch size.

    Args:
        batch_size: The number of samples in a batch.
        precision: gankit's precision. The scripts that it is compared with always run in float32.
        execution: How gankit runs a step.
        preset: The name of the preset that defines networks, latent and optimizers.
        loss: The name of the loss.
        penalty: The name of the penalty, or None.
        penalty_every: The number of steps from one penalty to the next.
        discriminator_steps: The number of updates of D in each step.
        replicas: The number of models that are trained side by side, or None for a single one.
        others: Whether other libraries are compared too.
        reach: Whether a goal depends on the row. Such rows are measured first, in case time runs short.
    """

    batch_size: int
    precision: str
    execution: str
    preset: str = "vanilla_mnist"
    loss: str = "non_saturating"
    penalty: str | None = None
    penalty_every: int = 1
    discriminator_steps: int = 1
    replicas: int | None = None
    others: bool = False
    reach: bool = False

    @property
    def what(self) -> str:
        """The training, in words."""
        if self.replicas is not None:
            return f"{self.preset}, {self.replicas} replicas"
        if self.loss == "wasserstein":
            return f"WGAN-GP, {self.discriminator_steps} critic steps"
        if self.penalty is not None:
            return "R1" if self.penalty_every == 1 else f"R1 every {self.penalty_every} steps"
        return self.preset

    @property
    def name(self) -> str:
        """The row's name."""
        return f"{self.what}, {self.batch_size}, {self.precision}, {self.execution}"

    @property
    def images(self) -> int:
        """The number of real images that the discriminators see in a step."""
        return self.batch_size * self.discriminator_steps * (self.replicas or 1)

    @property
    def sample_range(self) -> tuple[float, float]:
        """The range of the preset's pictures."""
        return PRESETS.get(self.preset).sample_range

    @property
    def latent_dim(self) -> int:
        """The length of a latent."""
        return PRESETS.get(self.preset).latent.arguments["latent_dim"]

    def trainer(self, device: torch.device) -> AdversarialTrainer:
        """Return gankit's trainer for this row."""
        options = {"precision": self.precision, "execution": self.execution, "replicas": self.replicas}
        return PRESETS.get(self.preset)(device=device, **options, **self._parts())

    def one_trainer(self, device: torch.device) -> AdversarialTrainer:
        """Return a float32, eager trainer without replicas: it provides networks for the scripts, and counts work."""
        return PRESETS.get(self.preset)(device=device, execution="eager", **self._parts())

    def contender(self, device: torch.device) -> tuple[AdversarialTrainer, Contender]:
        """Return gankit's trainer and its contender, which calls `fit` on resident batches, logs included."""
        trainer = self.trainer(device)
        batches = PRESETS.get(self.preset).batches(
            digits(), device=device, batch_size=self.batch_size, replicas=self.replicas
        )

        def steps(count: int) -> None:
            trainer.fit(batches, steps=trainer.steps_done + count)

        return trainer, steps

    def work(self) -> Work:
        """Return the work of one step."""
        return Work.of(
            lambda: self.one_trainer(torch.device("cpu")),
            PRESETS.get(self.preset).sample_shape,
            batch_size=self.batch_size,
            replicas=self.replicas,
            activation_bytes=2 if self.precision == "bfloat16" else 4,
        )

    def without_penalty(self) -> Row:
        """Return the row without loss or penalty that this one is compared with."""
        return Row(self.batch_size, self.precision, self.execution, self.preset)

    def _parts(self) -> dict[str, Any]:
        penalties = []
        if self.penalty is not None:
            options = {} if self.penalty_every == 1 else {"every": self.penalty_every}
            penalties.append(Spec(self.penalty, **options))
        return {
            "loss": self.loss,
            "regularizers": penalties,
            "discriminator_steps": self.discriminator_steps,
        }
