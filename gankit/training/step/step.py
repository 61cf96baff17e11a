"""One step of Algorithm 1 of Goodfellow et al. 2014: what is computed. How it is run is `execution`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gankit.context import StepContext, widened
from gankit.errors import ShapeError
from gankit.protocols import GradientInput, Half, Regularizer, has_log_odds
from gankit.training.finite import Undoable, all_finite, largest
from gankit.training.modes import frozen, tf32
from gankit.training.stacked import clip_gradient_norm

if TYPE_CHECKING:
    from gankit.training.trainer import AdversarialTrainer

CheckedBatch = tuple[Tensor, Tensor | None]
"""Real samples and their condition, on the device, of the right type and shape."""

Differentiate = Callable[[Half, Tensor, Tensor | None, Tensor], dict[str, Tensor]]
"""Put the gradient of one half's objective into its network's parameters; return the named results."""


class Step:
    """The parts of a trainer's step, in their order.

    Args:
        trainer: whose networks, loss, regularizers and optimizers are used.

    Attributes:
        differentiate: how a half is differentiated; by default operation by operation.
        make_context: what a half's `StepContext` is made by.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> sorted(Step(trainer)([(torch.randn(4, 2), None)]))[:2]
        ['discriminator_loss', 'fake_accuracy']
    """

    def __init__(self, trainer: AdversarialTrainer) -> None:
        self.trainer = trainer
        self.differentiate: Differentiate = self.differentiate_eagerly
        self.make_context: Callable[..., StepContext] = StepContext
        self._losses: dict[int, object] = {}
        self._parameters = [*trainer.generator.parameters(), *trainer.discriminator.parameters()]

    def __call__(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        """Make every update of one step; return its named results, on the device."""
        trainer = self.trainer
        results: dict[str, Tensor] = {}
        with self._precision():
            if trainer.share_generator_forward and self.updates_generator:
                return self._sharing(batches)
            for real, condition in batches:
                results = self._train("discriminator", self.differentiate, real, condition, self._latent(real))
            if self.updates_generator:
                real, condition = batches[-1]
                results |= self._train("generator", self.differentiate, real, condition, self._latent(real))
        return results

    @property
    def updates_generator(self) -> bool:
        """Whether G is trained in this step: not during the discriminator's warm-up."""
        return self.trainer.steps_done >= self.trainer.discriminator_warmup_steps

    def signature(self) -> tuple[object, ...]:
        """Return what decides which operations this step consists of, beside the shapes of its batches."""
        trainer = self.trainer
        due = tuple(n for n, part in trainer.regularizers.items() if trainer.steps_done % part.every == 0)
        flags = tuple([parameter.requires_grad for parameter in self._parameters])
        loss = trainer.loss
        self._losses[id(loss)] = loss  # kept, so that no other gets its id
        is_first_average = trainer.average is not None and trainer.average.is_first
        return (
            (id(loss), due, self.updates_generator, is_first_average, flags),
            (trainer.max_gradient_norm, trainer.precision, trainer.discriminator_steps),
        )

    def due(self, half: Half) -> Iterator[tuple[str, Regularizer]]:
        """Yield the penalties that join this half's objective in this step."""
        for name, part in self.trainer.regularizers.items():
            if isinstance(part, Regularizer) and part.half == half and self.trainer.steps_done % part.every == 0:
                yield name, part

    def penalties(self, half: Half, context: StepContext) -> dict[str, Tensor]:
        """Return the terms of the penalties that are due."""
        # `every` times as strong in every `every`-th step: the mean strength does not depend on it
        return {f"penalty/{name}": part(context) * part.every for name, part in self.due(half)}

    def terms(
        self, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor, fake: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one half's objective, and its named results.

        Args:
            half: whose.
            real: real samples.
            condition: what both networks are conditioned on, or None.
            latent: what the fakes are made from.
            fake: G(latent) where it is already there.
        """
        trainer, is_discriminator = self.trainer, half == "discriminator"
        inputs: set[GradientInput] = {one for _, part in self.due(half) for one in part.gradient_inputs}
        # a context of its own for each half: autocast's cached casts of D's weights are from before D's update
        with self._autocast():
            if fake is None:
                if "latent" in inputs and not is_discriminator:
                    latent.requires_grad_()
                with torch.no_grad() if is_discriminator else nullcontext():
                    fake = self._generate(latent, condition)
            if fake.shape != real.shape:
                raise ShapeError(
                    f"the generator's samples must have the real samples' shape {tuple(real.shape)}, got "
                    f"{tuple(fake.shape)}"
                )
            context = self.make_context(
                discriminator=trainer.discriminator,
                generator=trainer.generator,
                real=real,
                fake=fake,
                latent=latent,
                condition=condition,
                step=trainer.steps_done,
                random=trainer.noise,
                gradient_inputs=inputs if is_discriminator else (),
                concatenate=trainer.concatenate_discriminator_passes and is_discriminator,
            )
            objective = trainer.discriminator_objective if is_discriminator else trainer.generator_objective
            total, results = reduced(objective(context), context.logits("fake"))
            return total, results | (self._scores(context) if is_discriminator else {})

    def differentiate_eagerly(
        self, half: Half, real: Tensor, condition: Tensor | None, latent: Tensor, fake: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Run one half operation by operation, and put the gradient into its network's parameters."""
        discriminator = self.trainer.discriminator
        with frozen(discriminator) if half == "generator" else nullcontext():
            total, results = self.terms(half, real, condition, latent, fake)
            parameters = trained(self._network(half))
            # not .backward(): its nodes that accumulate belong to the stream on which they were first used
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        put_gradients(parameters, gradients)
        return results

    def _sharing(self, batches: Sequence[CheckedBatch]) -> dict[str, Tensor]:
        *others, (real, condition) = batches
        eagerly = self.differentiate_eagerly
        for one in others:
            self._train("discriminator", eagerly, *one, self._latent(one[0]))
        latent = self._latent(real)
        latent.requires_grad_(any("latent" in part.gradient_inputs for _, part in self.due("generator")))
        with self._autocast():
            fake = self._generate(latent, condition)
        results = self._train("discriminator", eagerly, real, condition, latent.detach(), fake.detach())
        return results | self._train("generator", eagerly, real, condition, latent, fake)

    def _train(self, half: Half, differentiate: Callable[..., dict[str, Tensor]], *inputs: Any) -> dict[str, Tensor]:
        """Make one update of one network; return the named results."""
        trainer = self.trainer
        optimizer = trainer.generator_optimizer if half == "generator" else trainer.discriminator_optimizer
        modules = self._modules(half)
        undoable = Undoable(optimizer, modules) if trainer.watch.policy == "skip" else None
        results = differentiate(half, *inputs)
        parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if trainer.ranks.size > 1:
            # buffers and results join the gradients: then every rank has the same ones, by one exchange
            buffers = {id(one): one for module in modules for one in module.buffers()}
            moving = [one for one in buffers.values() if one.is_floating_point()]
            trainer.ranks.average([*gradients, *moving, *results.values()])
        is_finite = None if undoable is None else all_finite([*results.values(), *largest(gradients)])
        if trainer.max_gradient_norm is not None:
            norm = clip_gradient_norm(parameters, trainer.max_gradient_norm, trainer.replicas)
            results[f"{half}_gradient_norm"] = norm
        # the first update makes the optimizer's state, so that there is nothing to put back: the host looks, once
        if is_finite is None or optimizer.state or bool(is_finite):
            optimizer.step()
        if undoable is not None and is_finite is not None:
            undoable.keep_if(is_finite)
            trainer.watch.skipped += ~is_finite
            results["skipped_updates"] = trainer.watch.skipped.clone()
        trainer.watch.see(results)
        if half == "generator":
            if trainer.average is not None:
                trainer.average.update()
            return results
        for part in trainer.regularizers.values():
            if not isinstance(part, Regularizer) and trainer.steps_done % part.every == 0:
                part.apply(trainer.discriminator)
        return results

    def _modules(self, half: Half) -> list[nn.Module]:
        """What has buffers that a half changes."""
        trainer = self.trainer
        parts = [part for part in (*trainer.parts(), trainer.loss) if isinstance(part, nn.Module)]
        # where both halves share G's pass, its graph is still needed after D's update, with the buffers as they were
        is_waiting = trainer.share_generator_forward and half == "discriminator" and self.updates_generator
        return [*([] if is_waiting else [trainer.generator]), trainer.discriminator, *parts]

    def _network(self, half: Half) -> nn.Module:
        return self.trainer.generator if half == "generator" else self.trainer.discriminator

    def _latent(self, real: Tensor) -> Tensor:
        trainer = self.trainer
        return trainer.draw_latents(real.shape[0 if trainer.replicas is None else 1], trainer.noise)

    def _generate(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        arguments = (latent,) if condition is None else (latent, condition)
        return widened(self.trainer.generator(*arguments))

    def _scores(self, context: StepContext) -> dict[str, Tensor]:
        real, fake = context.logits("real").detach(), context.logits("fake").detach()
        if not has_log_odds(self.trainer.loss):
            return {"real_score": real.mean(-1), "fake_score": fake.mean(-1)}
        return {
            "real_score": real.sigmoid().mean(-1),
            "fake_score": fake.sigmoid().mean(-1),
            "real_accuracy": (real > 0).float().mean(-1),
            "fake_accuracy": (fake < 0).float().mean(-1),
        }

    def _precision(self) -> AbstractContextManager[Any]:
        return tf32() if self.trainer.precision == "tf32" else nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.trainer.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.trainer.device.type, dtype=torch.bfloat16)


def put_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Put each parameter's gradient where its optimizer reads it, laid out in memory as the parameter is.

    `.backward()` lays it out so; `autograd.grad` does not, and a fused optimizer reads memory in its own order.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2, 3))
        >>> put_gradients([weight], [torch.ones(3, 2).t()])
        >>> weight.grad.stride() == weight.stride()
        True
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.stride() != parameter.stride():
            gradient = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
        parameter.grad = gradient


def trained(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require a gradient.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.bias.requires_grad_(False)
        >>> [tuple(parameter.shape) for parameter in trained(layer)]
        [(1, 2)]
    """
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def reduced(terms: Mapping[str, Tensor], logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of each term's mean over the batch (and over replicas the sum), and the means for the record.

    Raises:
        ShapeError: for a term that is not one value a sample.

    Example:
        >>> total, means = reduced({"loss": torch.tensor([1.0, 3.0])}, torch.zeros(2))
        >>> total, means
        (tensor(2.), {'loss': tensor(2.)})
    """
    means: dict[str, Tensor] = {}
    for name, term in terms.items():
        if term.shape != logits.shape:
            raise ShapeError(
                f"{name} must have the logits' shape {tuple(logits.shape)}, one value a sample, got "
                f"{tuple(term.shape)}; leave the mean to the trainer"
            )
        means[name] = term.mean() if term.ndim == 1 else term.mean(-1)
    first, *others = means.values()
    total = sum(others, first)
    return total.sum() if total.ndim else total, {name: mean.detach() for name, mean in means.items()}
