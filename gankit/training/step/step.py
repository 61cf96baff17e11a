"""`Step`: what one step of Algorithm 1 of Goodfellow et al. 2014 computes; `execution` decides how it is run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.answers import widened
from gankit.context import StepContext, one_tensor
from gankit.errors import ShapeError
from gankit.network_modes import tf32
from gankit.protocols import Half
from gankit.training.methods import MethodOf
from gankit.training.parallel.ranks import Ranks
from gankit.training.step.batches import CheckedBatch
from gankit.training.step.checks import single_samples_refused
from gankit.training.step.constants import Constants, Same, plain_values
from gankit.training.step.derivatives import explained, gradients_of
from gankit.training.step.finite import Undoable, all_finite, largest_magnitude
from gankit.training.step.gradients import (
    clip_gradient_norm,
    frozen,
    held_parameters,
    put_gradients,
    trainable_parameters,
)
from gankit.training.step.objectives import Objectives, reduce_terms
from gankit.training.step.options import Options
from gankit.training.step.state import TrainingState
from gankit.training.step.structure import Structure

Objective: TypeAlias = Callable[[StepContext], dict[str, Tensor]]
"""A function that returns the terms of one half by name, each with a value per sample, `(..., N)`, or per judgement."""

MakeContext: TypeAlias = Callable[..., StepContext]
"""A function that makes the context of one half: `StepContext` itself, or a class derived from it."""


class Differentiate(Protocol):
    """A way to put the gradient of one half's objective into its network's parameters."""

    def __call__(
        self, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor, fake: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Put the gradient into the parameters, and return the named results.

        Args:
            half: Whose objective is differentiated.
            real: Real samples.
            condition: What both networks are conditioned on, or None.
            latent: The latents of the fakes.
            fake: G(latent) if it was already computed, or None.
        """
        ...


class _Update(NamedTuple):
    """An update of one network whose gradient is computed."""

    half: Half
    optimizer: Optimizer
    parameters: Sequence[Tensor]
    gradients: Sequence[Tensor]
    results: dict[str, Tensor]
    undoable: Undoable | None


class Step:
    """One training step, composed of its parts. It changes the state's tensors, and counts nothing.

    Args:
        state: The networks and everything else that the step reads and changes.
        options: The options of the training.
        objectives: The loss, the penalties and the constraints.
        ranks: The processes that train together.
        discriminator_objective: A function that takes the place of D's terms, for objectives of your own.
        generator_objective: A function that takes the place of G's terms.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> step = Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)
        >>> sorted(step([(torch.randn(4, 2), None)]))[:2]
        ['discriminator_loss', 'fake_accuracy']
    """

    def __init__(
        self,
        state: TrainingState,
        options: Options,
        objectives: Objectives,
        ranks: Ranks,
        *,
        discriminator_objective: Objective | None = None,
        generator_objective: Objective | None = None,
    ) -> None:
        self.state: TrainingState = state
        self.options: Options = options
        self.objectives: Objectives = objectives
        self.ranks: Ranks = ranks
        self._objective_of: dict[Half, Objective | None] = {
            "discriminator": discriminator_objective,
            "generator": generator_objective,
        }
        self.constants: Constants = Constants()
        self.structure: Structure = Structure()
        self._examined: set[tuple[object, ...]] = set()  # the objectives whose graphs were examined
        self._stateless: set[tuple[Optimizer, Tensor]] = set()  # of whose updates an optimizer keeps nothing

    def __call__(
        self, batches: Sequence[CheckedBatch], differentiate: Differentiate | None = None
    ) -> dict[str, Tensor]:
        """Make every update of one step, and return its named results, on the device.

        Args:
            batches: One batch for each update of D.
            differentiate: The way to differentiate a half; None for `differentiate_eagerly`.
        """
        differentiate = self.differentiate_eagerly if differentiate is None else differentiate
        results: dict[str, Tensor] = {}
        with self._precision(), single_samples_refused():
            if self.options.has_shared_fakes and self.updates_generator:
                return self._with_shared_fakes(batches, differentiate)
            for real, condition in batches:
                results = self._update("discriminator", differentiate, real, condition, self._latent(real))
            if self.updates_generator:
                real, condition = batches[-1]
                results |= self._update("generator", differentiate, real, condition, self._latent(real))
        return results

    @property
    def updates_generator(self) -> bool:
        """Whether this step trains G, which it does not during the discriminator's warm-up."""
        return self.state.steps_done >= self.options.discriminator_warmup_steps

    def signature(self) -> tuple[object, ...]:
        """Return the key of the operations that this step consists of, apart from the shapes of its batches.

        Two steps with equal signatures, and batches of equal shapes, run the same operations, if `count_constants` was
        called before each of them.
        """
        average, objectives = self.state.average, self.objectives
        is_first_average = average is not None and average.is_first
        return (
            objectives.signature(self.state.steps_done),
            self.constants.newest,
            self.structure.newest,
            self.updates_generator,
            is_first_average,
        )

    def count_constants(self) -> int:
        """Return the number of the present values of what a compiled or captured step holds as constants."""
        _, loss_key = self.objectives.constant_parts(self.state.steps_done)
        structure = self.structure.number([self.state.generator, self.state.discriminator])
        own = tuple([_key_of(objective, half) for half, objective in self._objective_of.items()])
        return self.constants.number(self.constant_owners(), (loss_key, own, structure))

    def constant_owners(self) -> list[object]:
        """Return the networks, and the objectives' parts that last."""
        parts, _ = self.objectives.constant_parts(self.state.steps_done)
        return [self.state.generator, self.state.discriminator, *parts]

    # --- one half --------------------------------------------------------------------------------------------

    def terms(
        self,
        half: Half,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor,
        fake: Tensor | None = None,
        *,
        make_context: MakeContext = StepContext,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective of one half, and its named results.

        Args:
            half: Whose objective it is.
            real: Real samples.
            condition: What both networks are conditioned on, or None.
            latent: The latents of the fakes.
            fake: G(latent) if it was already computed, or None.
            make_context: What the half's context is made by.
        """
        state, is_discriminator = self.state, half == "discriminator"
        inputs = self.objectives.gradient_inputs(half, state.steps_done)
        # Each half has an autocast context of its own, whose cache would otherwise keep casts of D's weights from
        # before D's update.
        with self._autocast():
            if fake is None:
                if "latent" in inputs and not is_discriminator:
                    latent = latent.detach().requires_grad_()  # the latent's own tensor may be refilled
                with torch.no_grad() if is_discriminator else nullcontext():
                    fake = self._generate(latent, condition)
            if fake.shape != real.shape:
                raise ShapeError(
                    f"the generator's samples must have the real samples' shape {tuple(real.shape)}, got "
                    f"{tuple(fake.shape)}"
                )
            context = make_context(
                discriminator=state.discriminator,
                generator=state.generator,
                real=real,
                fake=fake,
                latent=latent,
                condition=condition,
                step=state.steps_done,
                random=state.randomness.noise,
                gradient_inputs=inputs if is_discriminator else (),
                replicas=state.replicas,
                concatenate=self.options.concatenate_discriminator_passes and is_discriminator,
            )
            objective = self._objective_of[half]
            terms = self.objectives.terms(half, context, state.steps_done) if objective is None else objective(context)
            total, results = reduce_terms(terms, context)
            results = self.objectives.without_every(results)
            return total, results | (self.objectives.scores(context, state.steps_done) if is_discriminator else {})

    def differentiate_eagerly(
        self,
        half: Half,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor,
        fake: Tensor | None = None,
        *,
        make_context: MakeContext = StepContext,
    ) -> dict[str, Tensor]:
        """Run one half operation by operation, put the gradient into its network's parameters, and return the results.

        The arguments are those of `terms`.
        """
        parameters = trainable_parameters(self.state.network(half))
        due = tuple([name for name, _ in self.objectives.due_penalties(half, self.state.steps_done)])
        examined = half, due, self.state.generator, self.state.discriminator, tuple(map(id, parameters))
        with self.only_trained(half, parameters), explained(half):
            total, results = self.terms(half, real, condition, latent, fake, make_context=make_context)
            gradients = gradients_of(total, parameters, half, is_examined=examined in self._examined)
        if parameters:
            self._examined.add(examined)
        put_gradients(parameters, gradients)
        return results

    def only_trained(self, half: Half, parameters: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Freeze what a half of the step does not train: D in that of G, apart from the parameters that they share.

        Args:
            half: The half of the step.
            parameters: The parameters that it trains.
        """
        return frozen(self.state.discriminator, parameters) if half == "generator" else nullcontext()

    def _with_shared_fakes(self, batches: Sequence[CheckedBatch], differentiate: Differentiate) -> dict[str, Tensor]:
        """Make every update of a step whose last update of D and whose update of G use the same fakes."""
        *others, (real, condition) = batches
        for one in others:
            self._update("discriminator", differentiate, *one, self._latent(one[0]))
        latent = self._latent(real)
        if "latent" in self.objectives.gradient_inputs("generator", self.state.steps_done):
            latent = latent.detach().requires_grad_()
        with self._autocast():
            fake = self._generate(latent, condition)
        discriminator = self._differentiated(
            "discriminator", differentiate, real, condition, latent.detach(), fake.detach()
        )
        if not self.options.simultaneous_updates:
            results = self._applied(discriminator)
            return results | self._update("generator", differentiate, real, condition, latent, fake)
        generator = self._differentiated("generator", differentiate, real, condition, latent, fake)
        return self._applied(discriminator) | self._applied(generator)

    def _update(
        self,
        half: Half,
        differentiate: Differentiate,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor,
        fake: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Make one update of one network, and return the named results."""
        return self._applied(self._differentiated(half, differentiate, real, condition, latent, fake))

    def _differentiated(
        self,
        half: Half,
        differentiate: Differentiate,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor,
        fake: Tensor | None = None,
    ) -> _Update:
        """Put the gradient of one half into its network's parameters, the same on every rank."""
        state, optimizer = self.state, self.state.optimizer(half)
        undoable = Undoable(optimizer, self._changed_modules(half)) if state.watch.policy == "skip" else None
        parameters = held_parameters(optimizer)
        for parameter in parameters:  # an optimizer would apply what earlier updates, or loops of others, have left
            parameter.grad = None
        results = differentiate(half, real, condition, latent, fake)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.ranks.size > 1:
            # buffers and results are averaged with the gradients, so that one exchange makes all of them equal
            buffers = {id(one): one for module in self._changed_modules(half) for one in module.buffers()}
            floating = [one for one in buffers.values() if one.is_floating_point()]
            self.ranks.average([*gradients, *floating, *results.values()])
        return _Update(half, optimizer, parameters, gradients, results, undoable)

    def _applied(self, update: _Update) -> dict[str, Tensor]:
        """Update a network by the gradient in its parameters, and return the named results."""
        half, optimizer, parameters, gradients, results, undoable = update
        state, max_norm = self.state, self.options.max_gradient_norm
        is_finite = None if undoable is None else all_finite([*results.values(), *largest_magnitude(gradients)])
        if max_norm is not None:
            results[f"{half}_gradient_norm"] = (
                clip_gradient_norm(parameters, max_norm, state.replicas)
                if gradients
                else torch.zeros_like(next(iter(results.values())))
            )
        # A parameter's first update creates its state, which could not be undone. Only then does the host read.
        new = [] if is_finite is None else [p for p in parameters if p.grad is not None and self._is_new(optimizer, p)]
        if gradients and (not new or bool(is_finite)):
            optimizer.step()
            self._stateless.update((optimizer, p) for p in new if not optimizer.state.get(p))
        if undoable is not None and is_finite is not None:
            undoable.keep_if(is_finite)
            state.watch.skipped += ~is_finite
            results["skipped_updates"] = state.watch.skipped.clone()
        state.watch.see(results)
        if half == "discriminator":
            self.objectives.constrain(state.discriminator, state.steps_done)
        elif state.average is not None:
            state.average.move()
        return results

    def _is_new(self, optimizer: Optimizer, parameter: Tensor) -> bool:
        """Return whether an optimizer may create a state for a parameter at its next update."""
        return not optimizer.state.get(parameter) and (optimizer, parameter) not in self._stateless

    def _changed_modules(self, half: Half) -> list[nn.Module]:
        """Return the modules whose buffers one half changes."""
        modules = self.state.modules()
        if self.options.has_shared_fakes and half == "discriminator" and self.updates_generator:
            # G's graph is still needed after D's update, with the buffers that its forward pass has left
            modules.remove(self.state.generator)
        return modules

    def _latent(self, real: Tensor) -> Tensor:
        state = self.state
        return state.draw_latents(real.shape[0 if state.replicas is None else 1], state.randomness.noise)

    def _generate(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        arguments = (latent,) if condition is None else (latent, condition)
        fake = one_tensor("generator", self.state.generator(*arguments))
        return fake if fake.dtype == self.state.dtype else widened(fake)  # autocast leaves it in half precision

    def _precision(self) -> AbstractContextManager[Any]:
        return tf32() if self.options.precision == "tf32" else nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.options.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.state.device.type, dtype=torch.bfloat16)


def _key_of(objective: Objective | None, half: Half) -> Hashable:
    """Return a key of the function that makes the terms of a half, and of the numbers that it may read."""
    if not isinstance(objective, MethodOf):
        return Same(objective)
    owner, name = objective.owner, f"{half}_objective"
    if name in vars(owner):  # assigned to a trainer
        return Same(vars(owner)[name])
    is_own = getattr(type(owner), name).__module__.startswith("gankit.")
    return None if is_own else plain_values(owner)
