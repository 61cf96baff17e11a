"""The generic adversarial trainer: Algorithm 1 of Goodfellow et al. 2014, for any networks and any loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, BadValueError, DataError, ShapeError, check_positive
from gankit.protocols import (
    AdversarialLoss,
    Batch,
    Callback,
    Constraint,
    GradientInput,
    Half,
    Latent,
    Regularizer,
    ScheduledLoss,
    Stateful,
    StepContext,
    widened,
)
from gankit.seeds import stream_seed
from gankit.training.averaging import WeightAverage
from gankit.training.checks import check_optimizer, check_shapes, common_device
from gankit.training.feed import Feed
from gankit.training.modes import evaluating, frozen

Precision = Literal["float32", "bfloat16"]

_PRECISIONS = ("float32", "bfloat16")
_STATE_FORMAT = 1
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class AdversarialTrainer:
    """Train a generator against a discriminator.

    One step is Algorithm 1 of Goodfellow et al. 2014 with fresh noise in both halves: the discriminator, the
    teacher, is updated `discriminator_steps` times, then the generator, the pupil, once:

    ```
    repeat discriminator_steps times:
        real <- next batch;  z <- latent;  fake <- G(z), without a graph
        update D by  mean discriminator_loss(D(real), D(fake)) + penalties
    z <- latent
    update G by  mean generator_loss(D(G(z))) + the generator's terms, D frozen
    update the averaged generator
    ```

    Both networks stay in train mode. With one seed, this is to the last bit on the CPU what the same loop
    written by hand computes.

    Args:
        generator: G, from latents `(N, *latent_shape)` to samples `(N, *sample_shape)`.
        discriminator: D, from samples to logits `(N,)`.
        loss: an `AdversarialLoss`, or anything that offers one by `loss_at(step)`.
        latent: where z comes from.
        generator_optimizer: a torch optimizer over G's parameters.
        discriminator_optimizer: a torch optimizer over D's parameters.
        regularizers: penalties and constraints; a mapping names them, in a sequence they are named after
            their classes.
        discriminator_steps: updates of D in each step, each on a batch of its own.
        discriminator_warmup_steps: in this many first steps only D is trained.
        averaging_decay: keep an exponential moving average of G's weights with this decay a step; None for
            none.
        max_gradient_norm: clip each network's gradient to this norm; None for no clipping.
        precision: `float32`, or `bfloat16` for autocast (losses and penalties stay in float32).
        seed: of all the trainer's random numbers.
        log_every_steps: how often `fit` reads the metrics on the host.
        callbacks: called after every `every`-th step of `fit`.

    Attributes:
        generator: G.
        discriminator: D.
        averaged_generator: the averaged G, or None.
        generator_optimizer: as given.
        discriminator_optimizer: as given.
        steps_done: how many steps were made.
        metrics: the newest value of each named result, on the device: `discriminator_loss`,
            `generator_loss`, `real_score` and `fake_score` (D(x) and D(G(z)): means of the sigmoid of the
            logits where they are log-odds, else of the critic's values), `real_accuracy` and `fake_accuracy`
            (log-odds only), `penalty/<name>`, `<network>_gradient_norm` (with clipping).
        history: what `fit` read of them, as numbers, with the step.

    Raises:
        ShapeError: for networks that do not fit the latent or each other; found on fake-tensor copies.
        BadArgumentsError: for a part that is not what its argument needs.
        BadValueError: for an impossible number.
        DeviceError: for networks on different devices.

    Example:
        >>> from gankit import AdversarialTrainer, losses, latents
        >>> G = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> D = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
        >>> trainer = AdversarialTrainer(
        ...     G, D, losses.NonSaturating(), latent=latents.Normal(2),
        ...     generator_optimizer=torch.optim.Adam(G.parameters(), 1e-3),
        ...     discriminator_optimizer=torch.optim.Adam(D.parameters(), 1e-3),
        ... )
        >>> trainer.fit([torch.randn(16, 3) for _ in range(5)], steps=20).steps_done
        20
        >>> trainer.sample(4).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | ScheduledLoss,
        *,
        latent: Latent,
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint] = (),
        discriminator_steps: int = 1,
        discriminator_warmup_steps: int = 0,
        averaging_decay: float | None = None,
        max_gradient_norm: float | None = None,
        precision: Precision = "float32",
        seed: int = 0,
        log_every_steps: int = 100,
        callbacks: Sequence[Callback[AdversarialTrainer]] = (),
    ) -> None:
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(network, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise BadArgumentsError(f"{name} must be a torch.nn.Module, got {network!r}")
        if not isinstance(loss, (AdversarialLoss, ScheduledLoss)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(
                "loss must be an object with discriminator_loss, generator_loss and needs_real_logits "
                f"(names are for presets and LOSSES.build), got {loss!r}"
            )
        check_optimizer("generator_optimizer", generator_optimizer, generator)
        check_optimizer("discriminator_optimizer", discriminator_optimizer, discriminator)
        check_positive("discriminator_steps", discriminator_steps)
        check_positive("discriminator_warmup_steps", discriminator_warmup_steps, zero=True)
        check_positive("log_every_steps", log_every_steps)
        if max_gradient_norm is not None:
            check_positive("max_gradient_norm", max_gradient_norm)
        if precision not in _PRECISIONS:
            raise BadValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")

        self.device: torch.device = common_device(generator, discriminator)
        self.generator: nn.Module = generator.train()
        self.discriminator: nn.Module = discriminator.train()
        self.latent: Latent = latent
        self.generator_optimizer: torch.optim.Optimizer = generator_optimizer
        self.discriminator_optimizer: torch.optim.Optimizer = discriminator_optimizer
        self.regularizers: dict[str, Regularizer | Constraint] = _named(regularizers)
        self.discriminator_steps: int = discriminator_steps
        self.discriminator_warmup_steps: int = discriminator_warmup_steps
        self.max_gradient_norm: float | None = max_gradient_norm
        self.precision: Precision = precision
        self.seed: int = seed
        self.log_every_steps: int = log_every_steps
        self.callbacks: list[Callback[AdversarialTrainer]] = list(callbacks)
        self.steps_done: int = 0
        self.metrics: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._reading: dict[str, float] = {}

        self._loss = loss
        self._scheduled = loss if isinstance(loss, ScheduledLoss) else None
        self._penalty_parts = {n: r for n, r in self.regularizers.items() if isinstance(r, Regularizer)}
        self._constraints = [r for r in self.regularizers.values() if not isinstance(r, Regularizer)]
        self._dtype = next((p.dtype for p in generator.parameters()), torch.get_default_dtype())
        self._average = None if averaging_decay is None else WeightAverage(generator, averaging_decay)
        self._noise = torch.Generator(self.device).manual_seed(stream_seed(seed, "training noise"))
        self._sampling = torch.Generator(self.device).manual_seed(stream_seed(seed, "sampling"))
        self._feed: Feed | None = None
        self._stopping = False
        self._mixes_samples = any(isinstance(layer, _BATCH_NORMS) for layer in generator.modules())
        self._sample_shape = self._check_shapes()

    @property
    def loss(self) -> AdversarialLoss:
        """The loss that is active at this step."""
        if self._scheduled is not None:
            return self._scheduled.loss_at(self.steps_done)
        return cast(AdversarialLoss, self._loss)

    @property
    def averaged_generator(self) -> nn.Module | None:
        """The generator with averaged weights, or None without averaging."""
        return None if self._average is None else self._average.network

    # --- one step ----------------------------------------------------------------------------------------

    def step(self, batch: Batch, *more: Batch) -> dict[str, Tensor]:
        """Make one step, in `fit` or in a loop of your own.

        Args:
            batch: `real` or `(real, condition)`, floating point, `(N, *sample_shape)`.
            *more: one more batch for each further update of the discriminator.

        Returns:
            This step's named results: 0-d tensors on the device, not read by the host.

        Raises:
            BadValueError: for another number of batches than `discriminator_steps`.
            ShapeError: for a batch of another shape than the generator's samples.
            DataError: for an empty batch, or one that is not floating point.
        """
        batches = [self._checked(one) for one in (batch, *more)]
        if len(batches) != self.discriminator_steps:
            raise BadValueError(
                f"step needs one batch for each of the {self.discriminator_steps} discriminator_steps, got "
                f"{len(batches)}"
            )
        results: dict[str, Tensor] = {}
        for real, condition in batches:
            results = self._update_discriminator(real, condition)
        if self.steps_done >= self.discriminator_warmup_steps:
            results |= self._update_generator(*batches[-1])
            if self._average is not None:
                self._average.update()
        self.steps_done += 1
        # a penalty that is not due in this step keeps its last value
        self.metrics = self.metrics | results
        return results

    def discriminator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return the discriminator's terms by name, each `(..., N)`; their means are added and descended.

        Override it for an objective of your own.
        """
        loss = self.loss.discriminator_loss(context.logits("real"), context.logits("fake"))
        return {"discriminator_loss": loss} | self._penalties("discriminator", context)

    def generator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return the generator's terms by name, each `(..., N)`; their means are added and descended.

        Override it for an objective of your own.
        """
        loss = self.loss
        fake_logits = context.logits("fake")
        # D is frozen here, so D(real) has no graph
        real_logits = context.logits("real") if loss.needs_real_logits else None
        terms = {"generator_loss": loss.generator_loss(fake_logits, real_logits)}
        return terms | self._penalties("generator", context)

    def _update_discriminator(self, real: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        with self._autocast():
            latent = self._draw_latent(len(real))
            with torch.no_grad():
                fake = self._generate(latent, condition)
            if fake.shape != real.shape:
                raise ShapeError(
                    f"the generator's samples must have the real samples' shape {tuple(real.shape)}, got "
                    f"{tuple(fake.shape)}"
                )
            context = self._context("discriminator", real, fake, latent, condition)
            total, results = _reduce(self.discriminator_objective(context), context.logits("fake"))
        results |= self._descend("discriminator", total)
        for constraint in self._constraints:
            if self.steps_done % constraint.every == 0:
                constraint.apply(self.discriminator)
        return results | self._scores(context)

    def _update_generator(self, real: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            # a context of its own: autocast's cached casts of D's weights are from before D's update
            with self._autocast():
                latent = self._draw_latent(len(real))
                if "latent" in self._gradient_inputs("generator"):
                    latent.requires_grad_()
                fake = self._generate(latent, condition)
                context = self._context("generator", real, fake, latent, condition)
                total, results = _reduce(self.generator_objective(context), context.logits("fake"))
            return results | self._descend("generator", total)

    def _context(self, half: Half, real: Tensor, fake: Tensor, latent: Tensor, condition: Tensor | None) -> StepContext:
        return StepContext(
            discriminator=self.discriminator,
            generator=self.generator,
            real=real,
            fake=fake,
            latent=latent,
            condition=condition,
            step=self.steps_done,
            random=self._noise,
            gradient_inputs=self._gradient_inputs(half) if half == "discriminator" else (),
        )

    def _descend(self, half: Half, total: Tensor) -> dict[str, Tensor]:
        optimizer = self.generator_optimizer if half == "generator" else self.discriminator_optimizer
        optimizer.zero_grad()
        torch.autograd.backward(total)
        norms: dict[str, Tensor] = {}
        if self.max_gradient_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
            norms[f"{half}_gradient_norm"] = norm
        optimizer.step()
        return norms

    def _due(self, half: Half) -> Iterator[tuple[str, Regularizer]]:
        for name, regularizer in self._penalty_parts.items():
            if regularizer.half == half and self.steps_done % regularizer.every == 0:
                yield name, regularizer

    def _gradient_inputs(self, half: Half) -> set[GradientInput]:
        return {one for _, regularizer in self._due(half) for one in regularizer.gradient_inputs}

    def _penalties(self, half: Half, context: StepContext) -> dict[str, Tensor]:
        # `every` times as strong in every `every`-th step: the mean strength does not depend on it
        return {f"penalty/{name}": regularizer(context) * regularizer.every for name, regularizer in self._due(half)}

    def _scores(self, context: StepContext) -> dict[str, Tensor]:
        real, fake = context.logits("real").detach(), context.logits("fake").detach()
        if not getattr(self.loss, "log_odds", False):
            return {"real_score": real.mean(-1), "fake_score": fake.mean(-1)}
        return {
            "real_score": real.sigmoid().mean(-1),
            "fake_score": fake.sigmoid().mean(-1),
            "real_accuracy": (real > 0).float().mean(-1),
            "fake_accuracy": (fake < 0).float().mean(-1),
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _draw_latent(self, count: int) -> Tensor:
        latent = self.latent(count, generator=self._noise, device=self.device)
        return latent.to(self._dtype) if latent.is_floating_point() else latent

    def _generate(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        arguments = (latent,) if condition is None else (latent, condition)
        return widened(self.generator(*arguments))

    # --- many steps --------------------------------------------------------------------------------------

    def fit(self, batches: Iterable[Batch], *, steps: int) -> Self:
        """Train until `steps` steps have been made in all, counting those of earlier calls.

        Args:
            batches: what can be iterated over, again and again: `TensorBatches`, a `DataLoader`, a list; or
                an endless iterator. A later call with the same object goes on where this one stopped.
            steps: the total; calling again with more continues.

        Returns:
            The trainer itself.

        Raises:
            BadValueError: for fewer `steps` than were already made.
            DataError: for batches that are empty, run out, or hold NaN or infinite values (read with the
                logs, every `log_every_steps`).
        """
        if steps < self.steps_done:
            raise BadValueError(
                f"steps is the total and {self.steps_done} are already done, so it must be {self.steps_done} or "
                f"more, got {steps}"
            )
        if self._feed is None or self._feed.batches is not batches:
            self._feed = Feed(batches, self.device)
        try:
            while self.steps_done < steps and not self._stopping:
                group = [next(self._feed) for _ in range(self.discriminator_steps)]
                self.step(*group)
                if self.steps_done % self.log_every_steps == 0:
                    self.history.append(self.read_metrics())
                for callback in self.callbacks:
                    if self.steps_done % callback.every == 0:
                        callback(self)
        finally:
            self._stopping = False
        return self

    def stop(self) -> None:
        """Let `fit` return after the step it is in, or at once if it is called next; for callbacks and signals."""
        self._stopping = True

    def read_metrics(self) -> dict[str, float]:
        """Read `metrics` on the host, in one transfer, with the number of the step.

        Raises:
            DataError: where a batch since the last reading held NaN or infinite values.

        Example:
            >>> from gankit.presets import vanilla_mnist
            >>> trainer = vanilla_mnist()
            >>> _ = trainer.step(torch.rand(8, 1, 28, 28))
            >>> sorted(trainer.read_metrics())[:3]
            ['discriminator_loss', 'fake_accuracy', 'fake_score']
        """
        if self._reading.get("step") == self.steps_done:
            return self._reading
        watched = self._feed.all_finite if self._feed else None
        finite = torch.ones((), device=self.device) if watched is None else watched.float()
        stacked: Any = torch.stack([*self.metrics.values(), finite])
        numbers: list[float] = stacked.tolist()
        *values, all_finite = numbers
        if self._feed:
            self._feed.all_finite = None
        if not all_finite:
            raise DataError(
                "batches must be finite, got NaN or infinite values in one of the last "
                f"{self.log_every_steps} steps before step {self.steps_done}"
            )
        self._reading = {"step": self.steps_done} | dict(zip(self.metrics, values, strict=True))
        return self._reading

    def sample(
        self,
        count: int,
        condition: Tensor | None = None,
        seed: int | None = None,
        *,
        batch_size: int = 1024,
    ) -> Tensor:
        """Generate samples from the averaged generator, or the generator where there is no average.

        In eval mode, without a graph, and without a draw from the training streams.

        Args:
            count: how many.
            condition: the condition of each, where the networks are conditional.
            seed: the same seed gives the same latents; None goes on in a stream of its own.
            batch_size: how many are generated at a time, which bounds the memory.

        Returns:
            `(count, *sample_shape)`, on the trainer's device.

        Raises:
            BadValueError: for a count or batch size under 1.
        """
        check_positive("count", count)
        check_positive("batch_size", batch_size)
        random = self._sampling
        if seed is not None:
            random = torch.Generator(self.device).manual_seed(seed)
        latent = self.latent(count, generator=random, device=self.device).to(self._dtype)
        network = self.averaged_generator or self.generator
        latents = torch.split(latent, batch_size)
        inputs: list[tuple[Tensor, ...]] = [(one,) for one in latents]
        if condition is not None:
            if len(condition) != count:
                raise ShapeError(f"condition must have one entry a sample, got {len(condition)} for {count}")
            inputs = list(zip(latents, torch.split(condition.to(self.device), batch_size), strict=True))
        with evaluating(network), torch.no_grad():
            return torch.cat([network(*one) for one in inputs])

    # --- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on except the batches, in plain containers.

        It loads with `torch.load(..., weights_only=True)`. `TensorBatches` has a `state_dict` of its own.
        """
        return {
            "format": _STATE_FORMAT,
            "steps_done": self.steps_done,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "average": None
            if self._average is None
            else {
                "network": self._average.network.state_dict(),
                "updates_done": self._average.updates_done,
            },
            "parts": {name: part.state_dict() for name, part in self._parts_with_state()},
            "random": {
                "noise": self._noise.get_state(),
                "sampling": self._sampling.get_state(),
                "default": _default_random_state(self.device),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        It also sets torch's default generator of this device, which dropout draws from.

        Raises:
            BadArgumentsError: for a state of another format, or of a trainer with other parts.
        """
        if state.get("format") != _STATE_FORMAT:
            raise BadArgumentsError(
                f"state must be a trainer's state_dict of format {_STATE_FORMAT}, got {state.get('format')!r}"
            )
        if (state["average"] is None) != (self._average is None):
            saved, own = ("without", "with") if self._average else ("with", "without")
            raise BadArgumentsError(f"state is of a trainer {saved} averaging_decay, this one is {own}")
        parts = dict(self._parts_with_state())
        if parts.keys() != state["parts"].keys():
            raise BadArgumentsError(f"state has the parts {sorted(state['parts'])}, this trainer has {sorted(parts)}")
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self._average is not None:
            self._average.network.load_state_dict(state["average"]["network"])
            self._average.updates_done = state["average"]["updates_done"]
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        self._noise.set_state(state["random"]["noise"].cpu())
        self._sampling.set_state(state["random"]["sampling"].cpu())
        _set_default_random_state(self.device, state["random"]["default"].cpu())
        self.steps_done = state["steps_done"]

    def _parts_with_state(self) -> Iterator[tuple[str, Stateful]]:
        for name, part in {"loss": self._loss, **self.regularizers}.items():
            if isinstance(part, Stateful):
                yield name, part

    # --- checks ------------------------------------------------------------------------------------------

    def _check_shapes(self, condition: Tensor | None = None) -> tuple[int, ...] | None:
        latent_shape: Sequence[int] | None = getattr(self.latent, "shape", None)
        if latent_shape is None:
            return None
        return check_shapes(self.generator, self.discriminator, latent_shape, condition, self.device, self._dtype)

    def _checked(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if isinstance(batch, Tensor):
            real, condition = batch, None
        elif len(batch) in (1, 2) and isinstance(batch[0], Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            real, condition = batch if len(batch) == 2 else (batch[0], None)
        else:
            raise DataError(f"a batch must be `real` or `(real, condition)`, got {type(batch).__name__}")
        if not real.is_floating_point():
            raise DataError(f"a batch must be floating point, got {real.dtype}; scale it to the samples' range")
        if len(real) < (2 if self._mixes_samples else 1):
            raise DataError(
                f"a batch must have {'2 samples or more for BatchNorm' if self._mixes_samples else 'samples'}, got "
                f"{len(real)}; a DataLoader leaves small ones out with drop_last=True"
            )
        real = real.to(self.device, self._dtype, non_blocking=True)
        if condition is not None:
            condition = condition.to(self.device, non_blocking=True)
            if len(condition) != len(real):
                raise ShapeError(
                    f"a batch's condition must have one entry a sample, got {len(condition)} for {len(real)}"
                )
        if not self.metrics and (condition is not None or self._sample_shape is None):
            # the first batch tells what the construction could not
            self._sample_shape = self._check_shapes(condition)
        if self._sample_shape is not None and real.shape[1:] != self._sample_shape:
            raise ShapeError(
                f"a batch must have samples of the generator's shape {self._sample_shape}, got {tuple(real.shape[1:])}"
            )
        return real, condition


def part_name(part: object) -> str:
    """Return the name of a part that has none: its class's, in snake_case.

    Example:
        >>> class WeightClipping: ...
        >>> part_name(WeightClipping())
        'weight_clipping'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(part).__name__).lower()


def _named(
    regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint],
) -> dict[str, Regularizer | Constraint]:
    if isinstance(regularizers, Mapping):
        named = dict(regularizers)
    else:
        named: dict[str, Regularizer | Constraint] = {}
        for part in regularizers:
            name = part_name(part)
            if name in named:
                raise BadValueError(f"two regularizers are called {name!r}; name them by a mapping")
            named[name] = part
    for name, part in named.items():
        if not isinstance(part, (Regularizer, Constraint)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(
                f"regularizer {name!r} must have half, every, gradient_inputs and be callable, or have every and "
                f"apply, got {part!r}"
            )
    return named


def _reduce(terms: Mapping[str, Tensor], logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over the batch of each term, their sum (over replicas too), and the means for the record."""
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


def _default_random_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device)


def _set_default_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)
