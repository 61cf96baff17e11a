"""The attributes of its state that a trainer has as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.protocols import AdversarialLoss, Constraint, Latent, Random, Regularizer
from gankit.training.step.averaging import WeightAverage
from gankit.training.step.finite import FiniteWatch
from gankit.training.step.randomness import Randomness
from gankit.training.step.state import TrainingState


class StateAttributes:
    """An object with a `TrainingState`, whose parts are attributes of the object too.

    Attributes:
        state: The state.
        sample_range: The values that pictures of samples draw black and white, or None if they are not known.
    """

    state: TrainingState
    sample_range: tuple[float, float] | None = None

    @property
    def generator(self) -> nn.Module:
        """G. A network that is assigned takes its place in the state."""
        return self.state.generator

    @generator.setter
    def generator(self, network: nn.Module) -> None:
        self.state.generator = network

    @property
    def discriminator(self) -> nn.Module:
        """D. A network that is assigned takes its place in the state."""
        return self.state.discriminator

    @discriminator.setter
    def discriminator(self, network: nn.Module) -> None:
        self.state.discriminator = network

    @property
    def generator_optimizer(self) -> Optimizer:
        """The optimizer of G. One that is assigned takes its place in the state."""
        return self.state.generator_optimizer

    @generator_optimizer.setter
    def generator_optimizer(self, optimizer: Optimizer) -> None:
        self.state.generator_optimizer = optimizer

    @property
    def discriminator_optimizer(self) -> Optimizer:
        """The optimizer of D. One that is assigned takes its place in the state."""
        return self.state.discriminator_optimizer

    @discriminator_optimizer.setter
    def discriminator_optimizer(self, optimizer: Optimizer) -> None:
        self.state.discriminator_optimizer = optimizer

    @property
    def loss(self) -> AdversarialLoss:
        """The loss that is used in the present step."""
        return self.state.objectives.loss_at(self.state.steps_done)

    @property
    def regularizers(self) -> dict[str, Regularizer | Constraint]:
        """The penalties and constraints by name."""
        return self.state.objectives.regularizers

    def parts(self) -> list[object]:
        """Return the loss, the losses of a schedule, the penalties and the constraints, each once."""
        return self.state.objectives.parts(self.state.steps_done)

    @property
    def latent(self) -> Latent:
        """The distribution of the latents."""
        return self.state.latent

    @property
    def average(self) -> WeightAverage | None:
        """The average of G's weights, or None without averaging."""
        return self.state.average

    @property
    def averaged_generator(self) -> nn.Module | None:
        """The generator with averaged weights, or None without averaging."""
        return None if self.state.average is None else self.state.average.network

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.state.device

    @property
    def replicas(self) -> int | None:
        """The number of replicas that each network has, or None for single networks."""
        return self.state.replicas

    @property
    def steps_done(self) -> int:
        """The number of steps that were made."""
        return self.state.steps_done

    @property
    def is_between_steps(self) -> bool:
        """Whether the state is that of a whole number of steps, which an error in the middle of a step prevents."""
        return self.state.is_between_steps

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The newest value of each named result, on the device."""
        return self.state.metrics.newest

    @property
    def history(self) -> list[dict[str, float]]:
        """The readings of the metrics in `fit`, as numbers, with the step."""
        return self.state.metrics.history

    @property
    def watch(self) -> FiniteWatch:
        """What was recorded of NaN and infinity, and done about it."""
        return self.state.watch

    @property
    def randomness(self) -> Randomness:
        """The random generators."""
        return self.state.randomness

    @property
    def noise(self) -> Random:
        """What training draws from: a generator, or one per replica."""
        return self.state.randomness.noise

    def draw_latents(self, count: int, random: Random) -> Tensor:
        """Draw latents for `count` samples, `(count, *latent_shape)`; with replicas, for each of them.

        Args:
            count: The number of samples, per replica.
            random: A generator, or one per replica, such as `trainer.noise`, from which training draws.
        """
        return self.state.draw_latents(count, random)
