"""`AdversarialTrainer`: Algorithm 1 of Goodfellow et al. 2014, for any networks and any loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.context import StepContext
from gankit.errors import (
    BadValueError,
    CheckpointWarning,
    DataError,
    GankitError,
    NonFiniteError,
    check_count,
    check_seed,
    warn,
)
from gankit.protocols import (
    AdversarialLoss,
    Batch,
    BuildsLosses,
    Callback,
    Constraint,
    Keeper,
    Latent,
    Regularizer,
    ScheduledLoss,
)
from gankit.training.attributes import StateAttributes
from gankit.training.execution.executor import Executor, Explanation
from gankit.training.feed import Feed
from gankit.training.fit_ends import begin_fit, end_fit
from gankit.training.methods import MethodOf
from gankit.training.non_finite import NonFiniteCheck, RollBack
from gankit.training.parallel.ranks import Ranks
from gankit.training.parallel.replicas import Stacked
from gankit.training.step import learning_rates
from gankit.training.step.batches import BatchCheck
from gankit.training.step.checks import checked_callbacks
from gankit.training.step.derivatives import check_gradients_enabled
from gankit.training.step.objectives import Objectives
from gankit.training.step.options import Execution, OnNonFinite, Options, Precision
from gankit.training.step.sampling import generate, seeds_per_replica
from gankit.training.step.state import TrainingState
from gankit.training.step.step import Step
from gankit.workers import WORKER_ERRORS

_RHYTHMS = ("check_every_steps", "log_every_steps", "learning_rate_decay_steps")


class AdversarialTrainer(StateAttributes):
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

    Both networks are in train mode, except for parts that are frozen in eval mode. On the CPU and with one seed, the
    results equal to the last bit those of the same loop written by hand.

    Args:
        generator: G, from latents `(N, *latent_shape)` to samples `(N, *sample_shape)`.
        discriminator: D, from samples to judgements: logits `(N,)`, or one of the others that `gankit.answers` lists.
        loss: An `AdversarialLoss`; a `LossSchedule`, from which the trainer builds losses of its own; or any object
            with `loss_at(step)`.
        latent: The distribution of the latents.
        generator_optimizer: A torch optimizer of G's parameters.
        discriminator_optimizer: A torch optimizer of D's parameters.
        regularizers: Penalties and constraints. A mapping gives their names; in a sequence, each is named after its
            class.
        discriminator_steps: The number of updates of D in each step, each on a batch of its own. For this and all
            other arguments that are not described here, see `Options`.
        learning_rate_decay_steps: The number of steps in which both learning rates go linearly to zero. None keeps
            them. torch's schedulers may be stepped in a callback instead.
        seed: The seed of all the trainer's random numbers.
        log_every_steps: The number of steps between two readings of the metrics on the host in `fit`.
        check_every_steps: The number of steps between two checks in `fit` whether everything is finite, and whether
            another rank wants to stop. None for `log_every_steps`.
        ranks: The processes that train this model together, each on its own share of the batch. None takes all of
            `torch.distributed` if it has been initialised. Training starts from the weights of rank 0, each rank draws
            noise of its own, and gradients, buffers and results are averaged before clipping.
        callbacks: Called in `fit` after every `every`-th step, on every rank.

    Attributes:
        generator: G.
        discriminator: D.
        averaged_generator: G with averaged weights, or None.
        generator_optimizer: As given.
        discriminator_optimizer: As given.
        options: The `Options` of this training.
        replicas: The number of replicas that each network has (`Stacked`), or None for single networks.
        steps_done: The number of steps that were made.
        feed: Where `fit` takes its batches from, or None before the first `fit`.
        metrics: The newest value of each named result, on the device: `discriminator_loss`, `generator_loss`,
            `real_score` and `fake_score` (D(x) and D(G(z)): means of the sigmoid of log-odds, or of the critic's
            values), `real_accuracy` and `fake_accuracy` (only with log-odds), all of these for each of several heads
            too (`real_score/head0`), `penalty/<name>`, and `<network>_gradient_norm`. 0-d, or `(R,)` with replicas.
        history: The readings of the metrics in `fit`, as numbers, with the step. The last step of a `fit` is always
            read. Of more than 10,000 readings, every second one is left out.
        ranks: The processes that train together. `ranks.is_first` says which of them logs.
        sample_range: The values that pictures draw black and white, if the trainer comes from a preset, or None.
        watch: What was recorded of NaN and infinity, and how often training has skipped an update or rolled back.
        state: The `TrainingState`: everything that the next step depends on.

    Raises:
        ShapeError: for networks that do not fit the latent or each other, found by a run on fake tensors.
        BadArgumentsError: for a part that is not what its argument needs.
        BadValueError: for a number that is out of range.
        DeviceError: for networks on different devices, or a precision or an execution that their device does not have.

    Example:
        >>> import torch
        >>> from torch import nn
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
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint] = (),
        discriminator_steps: int = 1,
        discriminator_warmup_steps: int = 0,
        averaging_decay: float | None = None,
        averaging_ramp: bool = True,
        max_gradient_norm: float | None = None,
        learning_rate_decay_steps: int | None = None,
        precision: Precision = "float32",
        execution: Execution = "auto",
        share_generator_forward: bool = False,
        simultaneous_updates: bool = False,
        concatenate_discriminator_passes: bool = False,
        seed: int = 0,
        log_every_steps: int = 100,
        check_every_steps: int | None = None,
        on_non_finite: OnNonFinite = "raise",
        synchronize_batch_norm: bool = False,
        ranks: Ranks | None = None,
        callbacks: Sequence[Callback[AdversarialTrainer]] = (),
    ) -> None:
        check_seed(seed)
        check_count("log_every_steps", log_every_steps)
        if check_every_steps is not None:
            check_count("check_every_steps", check_every_steps)
        if learning_rate_decay_steps is not None:
            check_count("learning_rate_decay_steps", learning_rate_decay_steps)
        self.options: Options = Options(
            discriminator_steps=discriminator_steps,
            discriminator_warmup_steps=discriminator_warmup_steps,
            averaging_decay=averaging_decay,
            averaging_ramp=averaging_ramp,
            max_gradient_norm=max_gradient_norm,
            precision=precision,
            execution=execution,
            share_generator_forward=share_generator_forward,
            simultaneous_updates=simultaneous_updates,
            concatenate_discriminator_passes=concatenate_discriminator_passes,
            on_non_finite=on_non_finite,
            synchronize_batch_norm=synchronize_batch_norm,
        )
        self.learning_rate_decay_steps: int | None = learning_rate_decay_steps
        self.seed: int = seed
        self.log_every_steps: int = log_every_steps
        self.check_every_steps: int = check_every_steps or log_every_steps
        self.ranks: Ranks = Ranks.present() if ranks is None else ranks
        self.callbacks: list[Callback[AdversarialTrainer]] = checked_callbacks(callbacks)
        self.feed: Feed | None = None
        self.state: TrainingState = TrainingState(
            generator,
            discriminator,
            objectives=Objectives(loss, regularizers),
            latent=latent,
            generator_optimizer=generator_optimizer,
            discriminator_optimizer=discriminator_optimizer,
            options=self.options,
            seed=seed,
            ranks=self.ranks,
        )
        self._step = Step(
            self.state,
            self.options,
            self.state.objectives,
            self.ranks,
            discriminator_objective=MethodOf(self, "discriminator_objective"),
            generator_objective=MethodOf(self, "generator_objective"),
        )
        self._checked = BatchCheck(self.state)
        self._executor = Executor(self._step)
        self._non_finite = NonFiniteCheck(self.state, self.options, self.ranks, self.check_every_steps)
        self._is_asked_to_stop = False

    @property
    def discriminator_steps(self) -> int:
        """The number of updates of D in each step, and so the number of batches that `step` takes."""
        return self.options.discriminator_steps

    # --- one step --------------------------------------------------------------------------------------------

    def step(self, batch: Batch, *more: Batch) -> dict[str, Tensor]:
        """Make one step, in `fit` or in a loop of your own.

        Args:
            batch: `real` or `(real, condition)`, floating point, `(N, *sample_shape)`.
            *more: One more batch for each further update of the discriminator.

        Returns:
            This step's named results: 0-d tensors on the device, not read by the host.

        Raises:
            BadValueError: for another number of batches than `discriminator_steps`.
            ShapeError: for a batch of another shape than the generator's samples.
            DataError: for an empty batch, or one that is not floating point.
        """
        self.ranks.check_present()
        batches = [self._checked(one) for one in (batch, *more)]
        if len(batches) != self.discriminator_steps:
            needed = f"{self.discriminator_steps} discriminator_steps"
            raise BadValueError(f"step needs one batch for each of the {needed}, got {len(batches)}")
        self._decay_learning_rates()
        return self._executor.run(batches)

    def discriminator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return D's terms by name, each `(..., N)`, whose means are added and minimised.

        Override this method for an objective of your own.
        """
        return self.state.objectives.terms("discriminator", context, self.steps_done)

    def generator_objective(self, context: StepContext) -> dict[str, Tensor]:
        """Return G's terms by name, each `(..., N)`, whose means are added and minimised.

        Override this method for an objective of your own.
        """
        return self.state.objectives.terms("generator", context, self.steps_done)

    def explain(self) -> Explanation:
        """Return how steps are run, why, and what that took.

        Example:
            >>> from gankit.presets import ring
            >>> ring(device="cpu").explain().mode
            'eager'
        """
        return self._executor.explain()

    def _decay_learning_rates(self) -> None:
        if self.learning_rate_decay_steps is not None:
            factor = max(0.0, 1 - self.steps_done / self.learning_rate_decay_steps)
            learning_rates.decay(self.state.optimizers, factor)

    # --- many steps ------------------------------------------------------------------------------------------

    def fit(self, batches: Iterable[Batch], *, steps: int) -> Self:
        """Train until `steps` steps have been made in all, including those of earlier calls.

        Args:
            batches: What can be iterated over repeatedly, or endlessly. A later call with the same object, or with
                batches that a preset has made again with the same seed, continues where this one has stopped.
            steps: The total number of steps. A later call with a larger number continues.

        Returns:
            The trainer itself.

        Raises:
            BadValueError: for fewer `steps` than were already made, or more than the learning rates last.
            DataError: for batches that are empty, run out, or hold NaN or infinite values, or a `DataLoader` that has
                lost a worker. If the batches failed between two steps, a `Checkpointer` among the callbacks has saved
                the last one.
            NonFiniteError: for a loss, a penalty, a gradient or a weight that is NaN or infinite, with
                `on_non_finite="raise"`, or with another policy if it does not help.
            BadArgumentsError: for `on_non_finite="rollback"` without a `Checkpointer` among the callbacks.
            DistributedError: if another rank has been lost, or if the present processes are not those of construction.
        """
        self.ranks.check_present()
        self.ranks.check_shard(batches)
        check_gradients_enabled()
        self._check_steps(steps)
        checked_callbacks(self.callbacks)  # a caller may have changed the list
        self._non_finite.check_policy(self._roll_back)
        begun_at = self.steps_done
        self.ranks.check_agreement(
            {"steps": steps, "steps_done": begun_at, "checkpointer's every": getattr(self._keeper, "every", None)}
            | {name: getattr(self, name) for name in _RHYTHMS}
        )
        self.feed = Feed.following(self.feed, batches, self.state.device)
        try:
            begin_fit(self.callbacks, self)
            while self.steps_done < steps and not self._is_stopping():
                self._step_on(self.feed)
                is_check_due = self.steps_done == steps or self.steps_done % self.check_every_steps == 0
                if is_check_due and not self._non_finite.check(self.feed, self._roll_back):
                    continue  # training has gone back to a checkpoint, whose step was logged before
                if self.steps_done % self.log_every_steps == 0 or self.steps_done == steps:
                    self.state.metrics.record(self.steps_done, self.log_every_steps)
                for callback in self.callbacks:
                    if self.steps_done % callback.every == 0:
                        callback(self)
            if self.steps_done > begun_at:
                self.state.metrics.record(self.steps_done, self.log_every_steps)
                end_fit(self.callbacks, self)
        except (*WORKER_ERRORS, DataError) as error:
            # torch reports a lost worker by errors of several types, and at any time
            lost = self.feed.end_workers_if_lost(error)
            if isinstance(lost or error, DataError) and self.feed.knows_its_place:
                self._save_whole_step(error)
            if lost is None:
                raise
            raise lost from (error.__cause__ if lost is error else error)
        finally:
            self.feed.release()
            self._is_asked_to_stop = False
        return self

    def _check_steps(self, steps: int) -> None:
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

    def _step_on(self, feed: Feed) -> None:
        """Make one step on the next batches, which a captured step draws for itself if they are on the device."""
        source, taken = feed.device_batches if self._executor.draws_batches else None, feed.taken
        self.state.is_between_steps = False
        if source is not None:
            self._decay_learning_rates()
            self._executor.run_from(
                source, lambda slot: self._checked.place(feed.read(source, slot, self.discriminator_steps))
            )
            return
        try:
            batches = feed.take(self.discriminator_steps)
        except (*WORKER_ERRORS, DataError):
            self.state.is_between_steps = feed.taken == taken
            raise
        self.step(*batches)

    def _save_whole_step(self, error: BaseException) -> None:
        """Save the present state after an error of the batches, if it is that of a whole number of steps."""
        # several ranks would have to save together, and the others do not know of the error
        if isinstance(error, NonFiniteError) or not self.state.is_between_steps or self.ranks.size > 1:
            return
        if (keeper := self._keeper) is not None:
            try:
                keeper.save(self)
            except GankitError as failure:
                warn(str(failure), CheckpointWarning)  # the error of the batches is raised

    @property
    def _keeper(self) -> Keeper[AdversarialTrainer] | None:
        """The first callback that keeps states, such as a `Checkpointer`, or None."""
        return next((one for one in self.callbacks if isinstance(one, Keeper)), None)

    @property
    def _roll_back(self) -> RollBack | None:
        keeper = self._keeper
        return None if keeper is None else lambda: keeper.roll_back(self)

    def stop(self) -> None:
        """Make `fit` return after the present step, or at once if it is called next; for callbacks and signals.

        With several ranks, it is enough to call it on one. All of them return after the next `check_every_steps`.
        """
        self._is_asked_to_stop = True

    def _is_stopping(self) -> bool:
        if self.ranks.size > 1:  # the ranks exchange it together with the checks
            return self.steps_done % self.check_every_steps == 0 and self.ranks.any(self._is_asked_to_stop)[0]
        return self._is_asked_to_stop

    def complaint(self) -> GankitError | None:
        """Return the error that says what in this training is NaN or infinite, or None. This is collective."""
        return self._non_finite.complaint(self.feed)

    def read_metrics(self) -> dict[str, float]:
        """Read `metrics` on the host, in one transfer, with the number of the step.

        With replicas, each name stands for the mean over them, and `<name>/sd` for the standard deviation. With several
        ranks, the values are means over all of them, which each rank has.

        Example:
            >>> import torch
            >>> from gankit.presets import vanilla_mnist
            >>> trainer = vanilla_mnist()
            >>> _ = trainer.step(torch.rand(8, 1, 28, 28))
            >>> sorted(trainer.read_metrics())[:3]
            ['discriminator_loss', 'fake_accuracy', 'fake_score']
        """
        return self.state.metrics.read(self.steps_done)

    # --- samples ---------------------------------------------------------------------------------------------

    def sample(
        self,
        count: int,
        condition: Tensor | None = None,
        seed: int | Sequence[int] | None = None,
        *,
        batch_size: int = 1024,
        averaged: bool = True,
    ) -> Tensor:
        """Generate samples by the averaged generator, or by the generator if there is no average.

        The network is in eval mode and builds no graph, and the random numbers of training are not used. Noise that the
        network draws itself follows from the seed too, and from `batch_size`. A call in another thread than that of
        `fit` waits for the end of the present step.

        Args:
            count: The number of samples, per replica.
            condition: The condition of each sample, for conditional networks.
            seed: A seed, or a list of one per replica, which gives the same samples each time. None continues a stream.
            batch_size: The largest number of samples that are generated at a time, which limits the memory.
            averaged: False generates by the generator's own weights, from the same latents.

        Returns:
            `(count, *sample_shape)` on the trainer's device; with replicas `(R, count, *sample_shape)` of `seed + i`.

        Raises:
            BadValueError: for a count or a batch size less than 1, or a list of seeds that is not one per replica.
        """
        random = self.randomness.sampling
        if seed is not None:
            random = self.randomness.generators(seeds_per_replica(seed, self.replicas))
        return generate(self.state, count, condition, random, batch_size=batch_size, averaged=averaged)

    def replica(self, index: int) -> tuple[nn.Module, nn.Module]:
        """Return the generator (the averaged one, if there is one) and the discriminator of one replica.

        They are ordinary networks, with weights of their own.

        Raises:
            BadValueError: for a trainer without replicas, or an index that it does not have.
        """
        generator = self.generator if self.averaged_generator is None else self.averaged_generator
        if not isinstance(generator, Stacked) or not isinstance(self.discriminator, Stacked):
            raise BadValueError("replica is for a trainer of Stacked networks, got one without replicas")
        return generator.replica(index), self.discriminator.replica(index)

    # --- state -----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"feed": None}  # a copy has no place in the batches, which `data_state` returns

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on except the batches, in plain containers.

        It can be loaded with `torch.load(..., weights_only=True)`. The tensors are those of the trainer, not copies.
        For the batches, see `data_state`.
        """
        return self.state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        This also sets torch's default generator of the device, which dropout draws from.

        Raises:
            BadArgumentsError: for a state of another format, or of a trainer with other parts.
        """
        with self.state.turns:
            self.state.load_state_dict(state)
            self._executor.reset()

    def data_state(self) -> dict[str, Any] | None:
        """Return the place of `fit` in its batches, as far as they report it, or None before the first `fit`."""
        return None if self.feed is None else self.feed.state_dict()

    def load_data_state(self, batches: Iterable[Batch], state: Mapping[str, Any]) -> str | None:
        """Let the next `fit` on `batches` continue at the place that `data_state` returned.

        Returns:
            A description of what cannot be restored, or None if everything was.

        Example:
            >>> from gankit.presets import ring
            >>> first, second = ring(device="cpu"), ring(device="cpu")
            >>> state = first.fit(ring.batches(device="cpu"), steps=2).data_state()
            >>> second.load_data_state(ring.batches(device="cpu"), state)
        """
        self.feed = Feed(batches, self.state.device)
        self.feed.load_state_dict(state)
        return self.feed.not_restorable
