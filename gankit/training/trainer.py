"""The generic adversarial trainer: Algorithm 1 of Goodfellow et al. 2014, for any networks and any loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from gankit.context import StepContext
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointWarning,
    DataError,
    DeviceError,
    NonFiniteError,
    OutputError,
    ShapeError,
    check_count,
    check_positive,
    check_seed,
    warn,
)
from gankit.protocols import (
    AdversarialLoss,
    Batch,
    BuildsLosses,
    Callback,
    Constraint,
    DeviceBatches,
    HasLosses,
    HasShape,
    Latent,
    Random,
    Regularizer,
    ScheduledLoss,
    Stateful,
)
from gankit.seeds import replica_seeds
from gankit.training.averaging import WeightAverage
from gankit.training.batch_norm import synchronize_batch_norm as synchronize_batch_norm_of
from gankit.training.checks import MIXING, check_optimizer, check_plain, check_shapes, check_unmixed, common_device
from gankit.training.distributed import Ranks
from gankit.training.execution import Execution, Executor, Explanation
from gankit.training.feed import Feed
from gankit.training.finite import FiniteWatch, OnNonFinite
from gankit.training.modes import evaluating
from gankit.training.randomness import Randomness
from gankit.training.stacked import Stacked, check_replica_optimizer
from gankit.training.step.step import CheckedBatch, Step
from gankit.workers import WORKER_ERRORS

Precision = Literal["float32", "bfloat16", "tf32"]

_PRECISIONS = ("float32", "bfloat16", "tf32")
_STATE_FORMAT = 1


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
        loss: an `AdversarialLoss`; a `LossSchedule`, from which the trainer builds losses of its own; or anything
            that offers one by `loss_at(step)`.
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
        learning_rate_decay_steps: both optimizers' learning rates go linearly to zero, which they reach after
            this many steps; None for constant ones. Schedulers of torch's may be stepped in a callback instead.
        precision: `float32`; `bfloat16` for autocast (losses and penalties stay in float32); or `tf32` for
            tensor cores on a CUDA device, which multiply with ten bits of the mantissa.
        execution: how a step is run: `eager`, operation by operation; `compile`, each half with its gradient
            compiled; `cuda_graph`, the whole step captured and replayed; `compile+cuda_graph`; or `auto`,
            captured on CUDA and eager on the CPU. What cannot be run so falls back with a warning.
        share_generator_forward: generate once a step rather than twice, so that the last update of D and that of
            G see the same fakes, and BatchNorm in G counts them once.
        concatenate_discriminator_passes: ask D once for real and fake samples together in its own half; only
            for a D that does not mix the samples of a batch. Spectral normalisation then makes one step of its
            power method rather than two.
        seed: of all the trainer's random numbers.
        log_every_steps: how often `fit` reads the metrics on the host.
        check_every_steps: how often `fit` looks whether everything is finite, and whether another process wants to
            stop; None for `log_every_steps`.
        on_non_finite: what `fit` does where a loss, a penalty, a gradient, a weight or the data is NaN or infinite.
            `raise` an error; `skip`, in each step, the update whose loss or gradient is so, and go on with a warning;
            or `rollback` to the newest checkpoint of the `Checkpointer` among the callbacks, halve both learning
            rates, and go on with a warning.
        synchronize_batch_norm: with several processes, let BatchNorm see the samples of all of them
            (`SynchronizedBatchNorm` takes its place in both networks); otherwise each sees its own.
        ranks: the processes that train this model together, each on its own share of the batch; None for all of
            `torch.distributed`, where it has been initialised. Weights begin as rank 0's, each rank has noise of its
            own, and gradients, buffers and results are averaged before clipping.
        callbacks: called after every `every`-th step of `fit`, on every rank.

    Attributes:
        generator: G.
        discriminator: D.
        averaged_generator: the averaged G, or None.
        generator_optimizer: as given.
        discriminator_optimizer: as given.
        replicas: how many networks each of G and D is (`Stacked`), or None for one.
        steps_done: how many steps were made.
        feed: what `fit` takes its batches from, or None before.
        metrics: the newest value of each named result, on the device: `discriminator_loss`,
            `generator_loss`, `real_score` and `fake_score` (D(x) and D(G(z)): means of the sigmoid of the
            logits where they are log-odds, else of the critic's values), `real_accuracy` and `fake_accuracy`
            (log-odds only), `penalty/<name>`, `<network>_gradient_norm` (with clipping). 0-d, or `(R,)` with
            replicas.
        history: what `fit` read of them, as numbers, with the step.
        ranks: the processes that train together; `ranks.is_first` tells which of them logs.
        watch: what has been noticed of NaN and infinity, and done about them.
        is_between_steps: whether the state is that of a whole number of steps, and the batches' place too; after an
            error in the middle of a step it is not, and is not saved.

    Raises:
        ShapeError: for networks that do not fit the latent or each other; found on fake-tensor copies.
        BadArgumentsError: for a part that is not what its argument needs.
        BadValueError: for an impossible number.
        DeviceError: for networks on different devices, or a precision or an execution that theirs has not.

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
        loss: AdversarialLoss | ScheduledLoss | BuildsLosses,
        *,
        latent: Latent,
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint] = (),
        discriminator_steps: int = 1,
        discriminator_warmup_steps: int = 0,
        averaging_decay: float | None = None,
        max_gradient_norm: float | None = None,
        learning_rate_decay_steps: int | None = None,
        precision: Precision = "float32",
        execution: Execution = "auto",
        share_generator_forward: bool = False,
        concatenate_discriminator_passes: bool = False,
        seed: int = 0,
        log_every_steps: int = 100,
        check_every_steps: int | None = None,
        on_non_finite: OnNonFinite = "raise",
        synchronize_batch_norm: bool = False,
        ranks: Ranks | None = None,
        callbacks: Sequence[Callback[AdversarialTrainer]] = (),
    ) -> None:
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(network, nn.Module):
                raise BadArgumentsError(f"{name} must be a torch.nn.Module, got {network!r}")
            check_plain(name, network)
        if isinstance(loss, BuildsLosses) and not isinstance(loss, AdversarialLoss):
            loss = loss.build()  # losses of its own, so that trainers of one preset share no state
        if not isinstance(loss, (AdversarialLoss, ScheduledLoss)):
            raise BadArgumentsError(
                "loss must be an object with discriminator_loss, generator_loss and needs_real_logits "
                f"(names are for presets and LOSSES.build), got {loss!r}"
            )
        check_seed(seed)
        check_optimizer("generator_optimizer", generator_optimizer, generator)
        check_optimizer("discriminator_optimizer", discriminator_optimizer, discriminator)
        check_count("discriminator_steps", discriminator_steps)
        check_count("discriminator_warmup_steps", discriminator_warmup_steps, zero=True)
        check_count("log_every_steps", log_every_steps)
        if check_every_steps is not None:
            check_count("check_every_steps", check_every_steps)
        if max_gradient_norm is not None:
            check_positive("max_gradient_norm", max_gradient_norm)
        if learning_rate_decay_steps is not None:
            check_count("learning_rate_decay_steps", learning_rate_decay_steps)
        if precision not in _PRECISIONS:
            raise BadValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")

        self.device: torch.device = common_device(generator, discriminator)
        self.ranks: Ranks = Ranks.present() if ranks is None else ranks
        if synchronize_batch_norm and self.ranks.size > 1:
            generator, discriminator = map(synchronize_batch_norm_of, (generator, discriminator))
        self.generator: nn.Module = generator.train()
        self.discriminator: nn.Module = discriminator.train()
        self.latent: Latent = latent
        self.generator_optimizer: torch.optim.Optimizer = generator_optimizer
        self.discriminator_optimizer: torch.optim.Optimizer = discriminator_optimizer
        self.regularizers: dict[str, Regularizer | Constraint] = _named(regularizers)
        self._loss = loss
        self._scheduled = loss if isinstance(loss, ScheduledLoss) else None
        self._scheduled_losses = tuple(loss.losses) if self._scheduled and isinstance(loss, HasLosses) else ()
        for part in self.parts():
            if isinstance(part, nn.Module):  # its averages belong where the networks are
                part.to(self.device)
        self.discriminator_steps: int = discriminator_steps
        self.discriminator_warmup_steps: int = discriminator_warmup_steps
        self.max_gradient_norm: float | None = max_gradient_norm
        self.learning_rate_decay_steps: int | None = learning_rate_decay_steps
        self.precision: Precision = precision
        self.share_generator_forward: bool = share_generator_forward
        self.concatenate_discriminator_passes: bool = concatenate_discriminator_passes
        self.seed: int = seed
        self.log_every_steps: int = log_every_steps
        self.check_every_steps: int = check_every_steps or log_every_steps
        self.synchronize_batch_norm: bool = synchronize_batch_norm
        self.callbacks: list[Callback[AdversarialTrainer]] = list(callbacks)
        self.steps_done: int = 0
        self.is_between_steps: bool = True
        self.metrics: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._reading: dict[str, float] = {}

        if precision == "tf32" and self.device.type != "cuda":
            raise DeviceError(f"precision 'tf32' needs a CUDA device, got {str(self.device)!r}")
        self.replicas: int | None = _replicas(self.generator, self.discriminator)
        if self.replicas is not None:
            check_replica_optimizer("generator_optimizer", generator_optimizer)
            check_replica_optimizer("discriminator_optimizer", discriminator_optimizer)
            if synchronize_batch_norm:
                raise BadValueError("synchronize_batch_norm is for one model, got it with replicas")
        if concatenate_discriminator_passes:
            check_unmixed(self.discriminator)
        self.watch: FiniteWatch = FiniteWatch(self, on_non_finite)
        modules = [one for one in (generator, discriminator, *self.parts()) if isinstance(one, nn.Module)]
        self.ranks.broadcast([tensor for module in modules for tensor in (*module.parameters(), *module.buffers())])
        self._dtype = next((p.dtype for p in generator.parameters()), torch.get_default_dtype())
        self.average: WeightAverage | None = None
        if averaging_decay is not None:
            self.average = WeightAverage(generator, averaging_decay)
        self.randomness: Randomness = Randomness(self.device, seed, self.replicas, self.ranks.rank)
        self.feed: Feed | None = None
        self._stopping = False
        self._mixes_samples = any(isinstance(layer, MIXING) for layer in generator.modules())
        self._sample_shape = self._check_shapes()
        self._step = Step(self)
        self._executor = Executor(self, self._step, execution)

    @property
    def loss(self) -> AdversarialLoss:
        """The loss that is active at this step."""
        if self._scheduled is not None:
            return self._scheduled.loss_at(self.steps_done)
        return cast(AdversarialLoss, self._loss)

    @property
    def noise(self) -> Random:
        """What training draws from: a generator, or one a replica."""
        return self.randomness.noise

    @property
    def averaged_generator(self) -> nn.Module | None:
        """The generator with averaged weights, or None without averaging."""
        return None if self.average is None else self.average.network

    def replica(self, index: int) -> tuple[nn.Module, nn.Module]:
        """Return the generator (the averaged one, where there is one) and the discriminator of one replica.

        They are ordinary networks, with weights of their own.

        Raises:
            BadValueError: for a trainer without replicas, or an index it has not.
        """
        generator = self.averaged_generator or self.generator
        if not isinstance(generator, Stacked) or not isinstance(self.discriminator, Stacked):
            raise BadValueError("replica is for a trainer of Stacked networks, got one without replicas")
        return generator.replica(index), self.discriminator.replica(index)

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
        self._decay_learning_rates()
        return self._count(self._executor.run(batches))

    def _count(self, results: dict[str, Tensor]) -> dict[str, Tensor]:
        self.steps_done += 1
        self.is_between_steps = True
        # a penalty that is not due in this step keeps its last value
        self.metrics = self.metrics | results
        return results

    def explain(self) -> Explanation:
        """Return how steps are run, why, and what that took.

        Example:
            >>> from gankit.presets import ring
            >>> ring(device="cpu").explain().mode
            'eager'
        """
        return self._executor.explain()

    def discriminator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return the discriminator's terms by name, each `(..., N)`; their means are added and descended.

        Override it for an objective of your own.
        """
        loss = self.loss.discriminator_loss(context.logits("real"), context.logits("fake"))
        return {"discriminator_loss": loss} | self._step.penalties("discriminator", context)

    def generator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return the generator's terms by name, each `(..., N)`; their means are added and descended.

        Override it for an objective of your own.
        """
        loss = self.loss
        fake_logits = context.logits("fake")
        # D is frozen here, so D(real) has no graph
        real_logits = context.logits("real") if loss.needs_real_logits else None
        terms = {"generator_loss": loss.generator_loss(fake_logits, real_logits)}
        return terms | self._step.penalties("generator", context)

    def _decay_learning_rates(self) -> None:
        if self.learning_rate_decay_steps is None:
            return
        factor = max(0.0, 1 - self.steps_done / self.learning_rate_decay_steps)
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                # torch's own schedulers keep the first rate under this name, and states carry it along
                rate: Any = group["lr"]
                first: Any = group.setdefault("initial_lr", rate.clone() if isinstance(rate, Tensor) else rate)
                if isinstance(rate, Tensor):
                    rate.copy_(first * factor)
                else:
                    group["lr"] = float(first) * factor

    def draw_latents(self, count: int, random: Random) -> Tensor:
        """Draw latents for `count` samples, `(count, *latent_shape)`; of each replica, with replicas.

        Args:
            count: how many.
            random: a generator, or one a replica, such as `trainer.noise`, from which training draws.
        """
        generators = list(random) if isinstance(random, Sequence) else [random]
        drawn = [self.latent(count, generator=one, device=self.device) for one in generators]
        latent = torch.stack(drawn) if isinstance(random, Sequence) else drawn[0]
        return latent.to(self._dtype) if latent.is_floating_point() else latent

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
            BadValueError: for fewer `steps` than were already made, or more than the learning rates last.
            DataError: for batches that are empty, run out, or hold NaN or infinite values, or a `DataLoader` that has
                lost a worker. Where the batches failed between two steps, a `Checkpointer` among the
                callbacks has saved the last one.
            NonFiniteError: for a loss, a penalty, a gradient or a weight that is NaN or infinite, with
                `on_non_finite="raise"`; with the others, where they do not help.
            BadArgumentsError: for `on_non_finite="rollback"` without a `Checkpointer` among the callbacks.
            DistributedError: where another rank has been lost.
        """
        if steps < self.steps_done:
            raise BadValueError(
                f"steps is the total and {self.steps_done} are already done, so it must be {self.steps_done} or "
                f"more, got {steps}"
            )
        if steps > (self.learning_rate_decay_steps or steps):
            raise BadValueError(
                f"steps must be at most learning_rate_decay_steps, after which the learning rates are zero, "
                f"{self.learning_rate_decay_steps}, got {steps}"
            )
        self.watch.check_policy()
        if self.feed is None or self.feed.batches is not batches:
            self.feed = Feed(batches, self.device)
        try:
            while self.steps_done < steps and not self._is_stopping():
                self._step_on(self.feed)
                is_last = self.steps_done == steps
                if (is_last or self.steps_done % self.check_every_steps == 0) and not self.watch.check():
                    continue
                if self.steps_done % self.log_every_steps == 0:
                    self.history.append(self.read_metrics())
                for callback in self.callbacks:
                    if self.steps_done % callback.every == 0:
                        callback(self)
        except (*WORKER_ERRORS, DataError) as error:
            lost = self.feed.end_workers_if_lost(error)
            if isinstance(lost or error, DataError) and self.feed.knows_its_place:
                self._save_what_is_whole(error)
            if lost is None:
                raise
            raise lost from (error.__cause__ if lost is error else error)
        finally:
            self._stopping = False
        return self

    def _step_on(self, feed: Feed) -> None:
        """Make one step on the next batches."""
        source = feed.device_batches if self._executor.draws_batches else None
        if source is not None:
            self.is_between_steps = False
            self._step_from(source)
            return
        taken = feed.taken
        self.is_between_steps = False
        try:
            batches = [next(feed) for _ in range(self.discriminator_steps)]
        except (*WORKER_ERRORS, DataError):
            self.is_between_steps = feed.taken == taken
            raise
        self.step(*batches)

    def _save_what_is_whole(self, error: BaseException) -> None:
        """Keep the present state where the batches have failed, and not the training."""
        keeper = self.watch.keeper
        # other ranks know nothing of it, and a state is of all
        if keeper is None or isinstance(error, NonFiniteError) or not self.is_between_steps or self.ranks.size > 1:
            return
        try:
            keeper.save(self)
        except OutputError as failure:
            warn(str(failure), CheckpointWarning)  # the batches' error goes on

    def _is_stopping(self) -> bool:
        """Whether `stop` was called; of several ranks, on any, which they tell each other with the checks."""
        if self.ranks.size > 1:
            return self.steps_done % self.check_every_steps == 0 and self.ranks.any(self._stopping)[0]
        return self._stopping

    def _step_from(self, source: DeviceBatches) -> None:
        def read(slot: int) -> CheckedBatch:
            return self._placed(*_parts(source.read(slot)))

        self._decay_learning_rates()
        self._count(self._executor.run_from(source, read))

    def stop(self) -> None:
        """Let `fit` return after the step it is in, or at once if it is called next; for callbacks and signals.

        With several ranks, it is enough to call it on one, and all return after the next `check_every_steps`.
        """
        self._stopping = True

    def read_metrics(self) -> dict[str, float]:
        """Read `metrics` on the host, in one transfer, with the number of the step.

        With replicas, each name stands for the mean over them, and `<name>/sd` for the standard deviation. With several
        ranks, they are means over all, and any rank may read them for itself.

        Example:
            >>> from gankit.presets import vanilla_mnist
            >>> trainer = vanilla_mnist()
            >>> _ = trainer.step(torch.rand(8, 1, 28, 28))
            >>> sorted(trainer.read_metrics())[:3]
            ['discriminator_loss', 'fake_accuracy', 'fake_score']
        """
        if self._reading.get("step") == self.steps_done:
            return self._reading
        stacked: Any = torch.stack([*self.metrics.values()]) if self.metrics else torch.empty(0)
        rows: list[Any] = stacked.tolist()
        self._reading = {"step": self.steps_done}
        for name, value in zip(self.metrics, rows, strict=True):
            self._reading |= {name: value} if self.replicas is None else _over_replicas(name, value)
        return self._reading

    def sample(
        self,
        count: int,
        condition: Tensor | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        batch_size: int = 1024,
    ) -> Tensor:
        """Generate samples from the averaged generator, or the generator where there is no average.

        In eval mode, without a graph, and without a draw from the training streams.

        Args:
            count: how many.
            condition: the condition of each, where the networks are conditional.
            seed: A seed, which always gives the same latents, or a list with the seed of each replica. None continues
                a stream of its own.
            batch_size: how many are generated at a time, which bounds the memory.

        Returns:
            `(count, *sample_shape)`, on the trainer's device; `(R, count, *sample_shape)` with replicas, where
            replica i uses the latents of the seed `seed + i`, or of its seed in the list.

        Raises:
            BadValueError: for a count or batch size under 1, or a list of seeds that is not one per replica.
        """
        check_count("count", count)
        check_count("batch_size", batch_size)
        random = self.randomness.sampling
        if seed is not None:
            if isinstance(seed, (list, tuple)):
                seeds = list(cast("Sequence[int]", seed))
            else:
                check_seed(cast(int, seed))
                seeds = replica_seeds(cast(int, seed), self.replicas)
            for one in seeds:
                check_seed(one)
            if len(seeds) != (self.replicas or 1):
                raise BadValueError(f"seed must be one number, or {self.replicas or 1}, one per replica, got {seeds}")
            random = self.randomness.seeded(lambda i: seeds[i])
        batch_dimension = 0 if self.replicas is None else 1
        network = self.averaged_generator or self.generator
        latents = torch.split(self.draw_latents(count, random), batch_size, batch_dimension)
        inputs: list[tuple[Tensor, ...]] = [(one,) for one in latents]
        if condition is not None:
            if len(condition) != count:
                raise ShapeError(f"condition must have one entry a sample, got {len(condition)} for {count}")
            condition = condition.to(self.device)
            if self.replicas is not None:
                condition = condition.expand(self.replicas, *condition.shape)
            inputs = list(zip(latents, torch.split(condition, batch_size, batch_dimension), strict=True))
        with evaluating(network), torch.no_grad():
            return torch.cat([network(*one) for one in inputs], batch_dimension)

    # --- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on except the batches, in plain containers.

        It loads with `torch.load(..., weights_only=True)`. The tensors are those of the trainer, not copies. For the
        batches, see `data_state`.
        """
        return {
            "format": _STATE_FORMAT,
            "steps_done": self.steps_done,
            "metrics": dict(self.metrics),
            "history": list(self.history),
            "watch": self.watch.state_dict(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "average": None
            if self.average is None
            else {
                "network": self.average.network.state_dict(),
                "updates_done": self.average.updates_done,
            },
            "parts": {name: part.state_dict() for name, part in self._parts_with_state()},
            "random": self.randomness.state_dict(),
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
        if (state["average"] is None) != (self.average is None):
            saved, own = ("without", "with") if self.average else ("with", "without")
            raise BadArgumentsError(f"state is of a trainer {saved} averaging_decay, this one is {own}")
        parts = dict(self._parts_with_state())
        if parts.keys() != state["parts"].keys():
            raise BadArgumentsError(f"state has the parts {sorted(state['parts'])}, this trainer has {sorted(parts)}")
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"]["network"])
            self.average.updates_done = state["average"]["updates_done"]
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        self.randomness.load_state_dict(state["random"])
        self.steps_done = state["steps_done"]
        self.metrics = {name: value.to(self.device) for name, value in state["metrics"].items()}
        self.history = list(state["history"])
        self.watch.load_state_dict(state["watch"])
        self.is_between_steps = True
        self._reading = {}
        self._executor.reset()

    def data_state(self) -> dict[str, Any] | None:
        """Return the place of `fit` in its batches, as far as they tell it; None before the first `fit`."""
        return None if self.feed is None else self.feed.state_dict()

    def load_data_state(self, batches: Iterable[Batch], state: Mapping[str, Any]) -> str | None:
        """Let the next `fit` on `batches` go on at the place that `data_state` returned.

        Returns:
            What cannot be restored, in words; None where everything was.

        Example:
            >>> from gankit.presets import ring
            >>> first, second = ring(device="cpu"), ring(device="cpu")
            >>> state = first.fit(ring.batches(device="cpu"), steps=2).data_state()
            >>> second.load_data_state(ring.batches(device="cpu"), state)
        """
        self.feed = Feed(batches, self.device)
        self.feed.load_state_dict(state)
        return self.feed.not_restorable

    def parts(self) -> list[object]:
        """Return the loss, the losses of a schedule, and the regularizers."""
        return [self._loss, *self._scheduled_losses, *self.regularizers.values()]

    def counters(self) -> tuple[int, int]:
        """Return the numbers that a step counts on the host."""
        return self.steps_done, 0 if self.average is None else self.average.updates_done

    def set_counters(self, counters: tuple[int, int]) -> None:
        """Set what `counters` returned."""
        self.steps_done, updates_done = counters
        if self.average is not None:
            self.average.updates_done = updates_done

    def _parts_with_state(self) -> Iterator[tuple[str, Stateful]]:
        for name, part in {"loss": self._loss, **self.regularizers}.items():
            if isinstance(part, Stateful):
                yield name, part

    # --- checks ------------------------------------------------------------------------------------------

    def _check_shapes(self, condition: Tensor | None = None) -> tuple[int, ...] | None:
        latent_shape = self.latent.shape if isinstance(self.latent, HasShape) else None
        if latent_shape is None:
            return None
        generator, discriminator = self.generator, self.discriminator
        if isinstance(generator, Stacked) and isinstance(discriminator, Stacked):
            generator, discriminator = generator.replica(0), discriminator.replica(0)
            condition = None if condition is None else condition[0]
        return check_shapes(generator, discriminator, latent_shape, condition, self.device, self._dtype)

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of one named result: `()`, or `(R,)` with replicas."""
        return () if self.replicas is None else (self.replicas,)

    def _placed(self, real: Tensor, condition: Tensor | None) -> CheckedBatch:
        real = real.to(self.device, self._dtype, non_blocking=True)
        return real, None if condition is None else condition.to(self.device, non_blocking=True)

    def _checked(self, batch: Batch) -> CheckedBatch:
        real, condition = _parts(batch)
        if not real.is_floating_point():
            raise DataError(f"a batch must be floating point, got {real.dtype}; scale it to the samples' range")
        leading = len(self.value_shape)
        if real.shape[:leading] != self.value_shape or real.ndim <= leading:
            raise ShapeError(
                f"a batch for {self.replicas} replicas must be ({self.replicas}, N, *sample_shape), got "
                f"{tuple(real.shape)}"
            )
        count = real.shape[leading]
        if count < (2 if self._mixes_samples else 1):
            raise DataError(
                f"a batch must have {'2 samples or more for BatchNorm' if self._mixes_samples else 'samples'}, got "
                f"{count}; a DataLoader leaves small ones out with drop_last=True"
            )
        real, condition = self._placed(real, condition)
        if condition is not None and condition.shape[: leading + 1] != real.shape[: leading + 1]:
            raise ShapeError(f"a batch's condition must have one entry a sample, got {len(condition)} for {len(real)}")
        if not self.metrics and (condition is not None or self._sample_shape is None):
            # the first batch tells what the construction could not
            self._sample_shape = self._check_shapes(condition)
        if self._sample_shape is not None and real.shape[leading + 1 :] != self._sample_shape:
            raise ShapeError(
                f"a batch must have samples of the generator's shape {self._sample_shape}, got "
                f"{tuple(real.shape[leading + 1 :])}"
            )
        return real, condition


def _parts(batch: Batch) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor):
        return batch, None
    if len(batch) in (1, 2) and isinstance(batch[0], Tensor):
        return batch[0], batch[1] if len(batch) == 2 else None
    raise DataError(f"a batch must be `real` or `(real, condition)`, got {type(batch).__name__}")


def _replicas(generator: nn.Module, discriminator: nn.Module) -> int | None:
    counts = [one.replicas if isinstance(one, Stacked) else None for one in (generator, discriminator)]
    if counts[0] != counts[1]:
        raise BadArgumentsError(
            f"generator and discriminator must be Stacked from as many networks, or both be one, got {counts[0]} and "
            f"{counts[1]} replicas"
        )
    return counts[0]


def _over_replicas(name: str, values: Sequence[float]) -> dict[str, float]:
    """The mean, and the standard deviation of a sample, with n - 1."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {name: mean, f"{name}/sd": math.sqrt(spread)}


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
        if not isinstance(part, (Regularizer, Constraint)):
            raise BadArgumentsError(
                f"regularizer {name!r} must have half, every, gradient_inputs and be callable, or have every and "
                f"apply, got {part!r}"
            )
    return named
