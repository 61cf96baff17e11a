"""`TrainingState`: everything that the next step depends on."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointWarning,
    DeviceError,
    ReplacedSettingsWarning,
    ShapeError,
    warn,
)
from gankit.network_modes import is_frozen_in_eval_mode, train
from gankit.protocols import Half, Latent, Random, makes_new_tensors
from gankit.training.parallel.batch_norm import synchronize_batch_norm
from gankit.training.parallel.ranks import Ranks
from gankit.training.parallel.replicas import Stacked, check_replica_optimizer
from gankit.training.step.averaging import WeightAverage
from gankit.training.step.checks import (
    check_latent,
    check_optimizer,
    check_plain,
    check_types,
    check_unmixed,
    check_unshared,
    common_device,
    described,
)
from gankit.training.step.facts import in_words, network_facts, optimizer_facts
from gankit.training.step.finite import FiniteWatch, optimizer_tensors
from gankit.training.step.loading import (
    check_tensors,
    describe_optimizer,
    load_optimizer,
    whole_or_not_at_all,
)
from gankit.training.step.metrics import Metrics
from gankit.training.step.objectives import Objectives
from gankit.training.step.options import Options
from gankit.training.step.randomness import Randomness
from gankit.training.step.turns import Turns

STATE_FORMAT = 1
"""The version of what `TrainingState.state_dict` returns."""
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
"""The names of the optimizers in a state."""


class TrainingState:
    """Everything that the next step depends on, except its batches, and the only place that knows how it is saved.

    Args:
        generator: G, from latents `(N, *latent_shape)` to samples `(N, *sample_shape)`.
        discriminator: D, from samples to judgements: logits `(N,)`, or one of the others that `gankit.answers` lists.
        objectives: The loss, the penalties and the constraints.
        latent: The distribution of the latents.
        generator_optimizer: An optimizer of G's parameters.
        discriminator_optimizer: An optimizer of D's parameters.
        options: The options of the training.
        seed: The seed of all random numbers of the training.
        ranks: The processes that train together. The tensors of the networks and of the objectives become those of
            rank 0.

    Attributes:
        generator: G, in train mode, except for what is frozen in eval mode (see `modes.train`).
        discriminator: D, likewise.
        generator_optimizer: As given.
        discriminator_optimizer: As given.
        objectives: As given.
        latent: As given.
        average: The average of G's weights, or None.
        randomness: The random generators.
        watch: What the steps have recorded of NaN and infinity.
        metrics: The named results.
        steps_done: The number of whole steps that were made.
        is_between_steps: Whether the state is that of a whole number of steps. Within a step, and after an error in the
            middle of one, it is not, and must not be saved.
        resumed_from: The step of the state that was loaded last, or None.
        training_id: What tells the checkpoints of this training from those of others. A checkpoint that is restored
            brings the id of its training.
        sources: Hashes of the source code of what built the parts, by name, where a preset has built them.
        turns: What a thread holds while it makes a step, samples or loads a state.
        device: The device of the networks.
        dtype: The type of the generator's parameters, and of latents and samples.
        replicas: The number of replicas that each network has, or None for single networks.

    Raises:
        BadArgumentsError: for a network or an optimizer that is not what its argument needs.
        BadValueError: for options that do not go with these networks, or ranks that were given different trainings.
        DeviceError: for networks on different devices, or a precision that their device does not have.

    Example:
        >>> from gankit.latents import Normal
        >>> from gankit.losses import Minimax
        >>> G, D = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
        >>> state = TrainingState(
        ...     G, D, objectives=Objectives(Minimax()), latent=Normal(2), options=Options(),
        ...     generator_optimizer=torch.optim.SGD(G.parameters()),
        ...     discriminator_optimizer=torch.optim.SGD(D.parameters()),
        ... )
        >>> sorted(state.state_dict())[:4]
        ['average', 'discriminator', 'discriminator_optimizer', 'format']
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        objectives: Objectives,
        latent: Latent,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        options: Options,
        seed: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        ranks = Ranks() if ranks is None else ranks
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(network, nn.Module):
                raise BadArgumentsError(f"{name} must be a torch.nn.Module, got {described(network)}")
            check_plain(name, network)
        check_latent(latent)
        check_optimizer("generator_optimizer", generator_optimizer, generator)
        check_optimizer("discriminator_optimizer", discriminator_optimizer, discriminator)
        self.device: torch.device = common_device(generator, discriminator)
        if options.precision != "bfloat16":  # under which torch casts what the networks are given
            check_types(generator, discriminator)
        if options.precision == "tf32" and self.device.type != "cuda":
            raise DeviceError(f"precision 'tf32' needs a CUDA device, got {str(self.device)!r}")
        self.replicas: int | None = _replicas(generator, discriminator)
        if self.replicas is not None:
            check_replica_optimizer("generator_optimizer", generator_optimizer)
            check_replica_optimizer("discriminator_optimizer", discriminator_optimizer)
            if options.synchronize_batch_norm:
                raise BadValueError("synchronize_batch_norm is for one model, got it with replicas")
        if options.concatenate_discriminator_passes:
            check_unmixed(discriminator)
        if options.has_shared_fakes:
            check_unshared(generator, discriminator)
        if options.synchronize_batch_norm and ranks.size > 1:
            generator, discriminator = map(synchronize_batch_norm, (generator, discriminator))

        for network in (generator, discriminator):
            train(network)
        self.generator: nn.Module = generator
        self.discriminator: nn.Module = discriminator
        self.generator_optimizer: Optimizer = generator_optimizer
        self.discriminator_optimizer: Optimizer = discriminator_optimizer
        self.objectives: Objectives = objectives
        self.latent: Latent = latent
        self.steps_done: int = 0
        self.is_between_steps: bool = True
        self.resumed_from: int | None = None
        self.training_id: str = ranks.first(lambda: uuid.uuid4().hex)
        self.sources: dict[str, str] = {}
        self.turns: Turns = Turns()
        self.metrics: Metrics = Metrics()
        self.dtype: torch.dtype = next((p.dtype for p in generator.parameters()), torch.get_default_dtype())
        is_double = any(p.dtype == torch.float64 for p in generator.parameters())
        self.watch: FiniteWatch = FiniteWatch(
            options.on_non_finite,
            value_shape=self.value_shape,
            dtype=torch.float64 if is_double else torch.float32,
            device=self.device,
        )
        for part in objectives.modules(0):  # a penalty's averages must be where the networks are
            part.to(self.device)
        if ranks.size > 1:
            ranks.check_agreement(
                {name: in_words(value) for name, value in vars(options).items()}
                | {"seed": in_words(seed), "latent": in_words(latent)}
                | objectives.facts()
                | optimizer_facts("generator_optimizer", generator_optimizer)
                | optimizer_facts("discriminator_optimizer", discriminator_optimizer)
                | network_facts("generator", generator)
                | network_facts("discriminator", discriminator)
            )
        ranks.broadcast([one for module in self.modules() for one in (*module.parameters(), *module.buffers())])
        self.average: WeightAverage | None = None
        if options.averaging_decay is not None:
            self.average = WeightAverage(generator, options.averaging_decay, ramp=options.averaging_ramp)
        self.randomness: Randomness = Randomness(self.device, seed, self.replicas, ranks.rank)

    # --- its parts -------------------------------------------------------------------------------------------

    def network(self, half: Half) -> nn.Module:
        """Return the network that a half of the step trains."""
        return self.generator if half == "generator" else self.discriminator

    def optimizer(self, half: Half) -> Optimizer:
        """Return the optimizer that a half of the step uses."""
        return self.generator_optimizer if half == "generator" else self.discriminator_optimizer

    @property
    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """The generator's and the discriminator's optimizer."""
        return self.generator_optimizer, self.discriminator_optimizer

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of one named result: `()`, or `(R,)` with replicas."""
        return () if self.replicas is None else (self.replicas,)

    def restore_train_mode(self) -> None:
        """Put a network that its owner has put into eval mode, as to look at samples, back into train mode.

        Layers that a callback holds in eval mode while their network is in train mode stay there.
        """
        for network in (self.generator, self.discriminator):
            if not network.training and not is_frozen_in_eval_mode(network):
                train(network)

    def modules(self) -> list[nn.Module]:
        """Return the modules that the present step can change: the networks and the parts of the objectives."""
        return [self.generator, self.discriminator, *self.objectives.modules(self.steps_done)]

    def tensors(self) -> list[Tensor]:
        """Return every tensor that the present step can change."""
        found = [tensor for module in self.modules() for tensor in (*module.parameters(), *module.buffers())]
        found += [] if self.average is None else self.average.tensors()
        found += self.watch.tensors()
        for optimizer in self.optimizers:
            found += optimizer_tensors(optimizer)
        return found

    def draw_latents(self, count: int, random: Random) -> Tensor:
        """Draw latents for `count` samples, `(count, *latent_shape)`; with replicas, `(R, count, *latent_shape)`.

        Args:
            count: The number of samples, per replica.
            random: A generator, or one per replica, such as `randomness.noise`, from which training draws.
        """
        generators = list(random) if isinstance(random, Sequence) else [random]
        drawn: list[Tensor] = []
        for generator in generators:
            one = self.latent(count, generator=generator, device=self.device)
            if not isinstance(one, Tensor) or one.shape[:1] != (count,):
                got = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise ShapeError(
                    f"latent must draw a tensor ({count}, *latent_shape) for a count of {count}, got {got}"
                )
            # a latent of somebody's own may refill one tensor
            drawn.append(one if len(generators) == 1 or makes_new_tensors(self.latent) else one.clone())
        latent = torch.stack(drawn) if isinstance(random, Sequence) else drawn[0]
        return latent.to(self.dtype) if latent.is_floating_point() else latent

    # --- counting --------------------------------------------------------------------------------------------

    def finish_step(self, results: Mapping[str, Tensor], *, has_updated_generator: bool) -> None:
        """Count a step that was made, and the update of the average in it, and take over its results.

        This is the only place that counts. A step that is run to be captured or compiled, or that is undone, is not
        counted, and a replayed one is counted as any other.
        """
        self.steps_done += 1
        self.is_between_steps = True
        if has_updated_generator and self.average is not None:
            self.average.count()
        self.metrics.update(results)

    # --- saving ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state in plain containers, with the tensors themselves, not copies.

        In the middle of a step, a `CheckpointWarning` says so.
        """
        if not self.is_between_steps:
            warn(f"{self.unfinished}, so this state cannot be continued exactly", CheckpointWarning)
        return self.shared_state_dict() | self.rank_state_dict()

    @property
    def unfinished(self) -> str:
        """What is wrong with a state in the middle of a step, in words."""
        return f"step {self.steps_done + 1} has begun and is not finished"

    def shared_state_dict(self) -> dict[str, Any]:
        """Return the part of the state that is the same on every rank."""
        return {
            "format": STATE_FORMAT,
            "steps_done": self.steps_done,
            **self.metrics.state_dict(),
            "watch": self.watch.state_dict(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "optimizers": {name: describe_optimizer(getattr(self, name)) for name in OPTIMIZERS},
            "average": None if self.average is None else self.average.nested_state_dict(),
            "parts": self.objectives.state_dict(),
        }

    def rank_state_dict(self) -> dict[str, Any]:
        """Return the part of the state that each rank has for itself: its random generators."""
        return {"random": self.randomness.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned. This also sets torch's default generator of the device.

        A `ReplacedSettingsWarning` names the numbers of the optimizers that were set here and are replaced.

        Raises:
            BadArgumentsError: for a state of another format, or of a training with other networks, optimizers or parts.
                Nothing is changed then.
        """
        self._check_state_dict(state)
        abouts: Mapping[str, Any] = state.get("optimizers", {})
        replaced: list[str] = []
        parts = (self.generator, self.discriminator, self.objectives, self.randomness, self.watch)
        with whole_or_not_at_all([*parts, *([] if self.average is None else [self.average])], self.optimizers):
            for name, optimizer in zip(OPTIMIZERS, self.optimizers, strict=True):
                replaced += load_optimizer(name, optimizer, state[name], abouts.get(name))
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            if self.average is not None:
                self.average.load_nested_state_dict(state["average"])
            self.objectives.load_state_dict(state["parts"])
            self.randomness.load_state_dict(state["random"])
            self.watch.load_state_dict(state["watch"])
            self.metrics.load_state_dict(state, self.device)
        self.steps_done = self.resumed_from = state["steps_done"]
        self.is_between_steps = True
        if replaced:
            warn(
                f"the loaded state has replaced {', '.join(replaced)}; to train with another value, set it after "
                "loading",
                ReplacedSettingsWarning,
            )

    def _check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise unless a state has the form of this one, and networks with tensors of the same shapes and types."""
        if not isinstance(state, Mapping) or state.get("format") != STATE_FORMAT:
            found = repr(state.get("format")) if isinstance(state, Mapping) else type(state).__name__
            raise BadArgumentsError(f"state must be a trainer's state_dict of format {STATE_FORMAT}, got {found}")
        own = self.shared_state_dict() | self.rank_state_dict()
        if missing := own.keys() - state.keys() - {"optimizers"}:
            raise BadArgumentsError(
                f"state must be a trainer's whole state_dict, got one without {', '.join(sorted(missing))}"
            )
        if type(state["steps_done"]) is not int or state["steps_done"] < 0:
            raise BadArgumentsError(f"state must hold a number of steps_done, got {state['steps_done']!r}")
        if (state["average"] is None) != (self.average is None):
            saved, here = ("without", "with") if self.average else ("with", "without")
            raise BadArgumentsError(f"state is of a trainer {saved} averaging_decay, this one is {here}")
        self.objectives.check_state_dict(state["parts"])
        for name in ("generator", "discriminator"):
            check_tensors(name, own[name], state[name])
        if self.average is not None:
            check_tensors("averaged_generator", own["average"]["network"], state["average"]["network"])

    def fit_state(self, saved: Mapping[str, Any], changed: Collection[str]) -> dict[str, Any]:
        """Return a saved shared state, adapted to a training whose recipe differs from the one that was saved.

        Args:
            saved: What `shared_state_dict` of the other training returned.
            changed: The names of what differs, such as `generator_optimizer`, `loss` or `regularizers`. A changed
                optimizer gets the new numbers, and keeps its old moments if the new one has such moments too. A changed
                loss or regularizer begins without a past. An average that the saved training did not have begins with
                the weights of its generator.
        """
        own, fitted = self.shared_state_dict(), dict(saved)
        fitted["optimizers"] = dict(saved["optimizers"])
        for name in OPTIMIZERS:
            if name in changed:
                fitted["optimizers"][name] = own["optimizers"][name]
                moments: Mapping[Any, Any] = saved[name]["state"] if _same_keys(saved[name], own[name]) else {}
                fitted[name] = {"state": moments, "param_groups": own[name]["param_groups"]}
        if (saved["average"] is None) != (own["average"] is None):
            fitted["average"] = own["average"] and {"network": saved["generator"], "updates_done": 0}
        has_new_parts = bool({"loss", "regularizers"} & set(changed))
        fitted["parts"] = {
            name: part if has_new_parts or name not in saved["parts"] else saved["parts"][name]
            for name, part in own["parts"].items()
        }
        return fitted


def _same_keys(saved: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Return whether two optimizer states have parameter groups with the same settings."""
    first, second = ([set(group) - {"initial_lr"} for group in one["param_groups"]] for one in (saved, own))
    return first == second


def _replicas(generator: nn.Module, discriminator: nn.Module) -> int | None:
    counts = [one.replicas if isinstance(one, Stacked) else None for one in (generator, discriminator)]
    if counts[0] != counts[1]:
        raise BadArgumentsError(
            f"generator and discriminator must be Stacked from as many networks, or both be one, got {counts[0]} and "
            f"{counts[1]} replicas"
        )
    if isinstance(generator, Stacked) and generator.shares_parameters_with(discriminator):
        raise BadArgumentsError(
            "replicas of generator and discriminator must have parameters of their own, got networks that share one, "
            "of which each would train a copy; train them one by one"
        )
    return counts[0]
