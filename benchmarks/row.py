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
    """One row: a preset with its settings, on one batch size.

    Args:
        batch_size: samples a batch.
        precision: gankit's; the scripts beside it are float32 always.
        execution: gankit's.
        preset: whose networks, latent and optimizers.
        loss: a name.
        penalty: a name, or None.
        penalty_every: in steps.
        discriminator_steps: updates of D a step.
        replicas: how many networks train side by side.
        others: hold other libraries against it, too.
        reach: it answers for a goal, so it comes before others if time runs short.
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
        """Which training, in words."""
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
        """How many real images the discriminators see in a step."""
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
        """Return gankit's trainer of this row."""
        options = {"precision": self.precision, "execution": self.execution, "replicas": self.replicas}
        return PRESETS.get(self.preset)(device=device, **options, **self._parts())

    def one_trainer(self, device: torch.device) -> AdversarialTrainer:
        """Return a trainer of one network each, in float32, eager: whose networks others train, or that counts work."""
        return PRESETS.get(self.preset)(device=device, execution="eager", **self._parts())

    def contender(self, device: torch.device) -> tuple[AdversarialTrainer, Contender]:
        """Return gankit's trainer, and what makes steps of it: `fit` on resident batches, its logs included."""
        trainer = self.trainer(device)
        batches = PRESETS.get(self.preset).batches(
            digits(), device=device, batch_size=self.batch_size, replicas=self.replicas
        )

        def steps(count: int) -> None:
            trainer.fit(batches, steps=trainer.steps_done + count)

        return trainer, steps

    def work(self) -> Work:
        """Return what one step has to do."""
        return Work.of(
            lambda: self.one_trainer(torch.device("cpu")),
            PRESETS.get(self.preset).sample_shape,
            batch_size=self.batch_size,
            replicas=self.replicas,
            activation_bytes=2 if self.precision == "bfloat16" else 4,
        )

    def without_penalty(self) -> Row:
        """Return the row that this one's loss or penalty is held against."""
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
