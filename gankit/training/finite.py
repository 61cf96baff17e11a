"""NaN and infinity: noticed on the device, looked for on the host now and then, kept out of an update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    GankitError,
    NonFiniteDataError,
    NonFiniteError,
    NonFiniteWarning,
    warn,
)
from gankit.protocols import Keeper, State

if TYPE_CHECKING:
    from gankit.training.trainer import AdversarialTrainer

_ADVICE = "lower the learning rates, or go on by on_non_finite"
_MOST_ROLLBACKS = 5

OnNonFinite = Literal["raise", "skip", "rollback"]

ON_NON_FINITE: tuple[OnNonFinite, ...] = ("raise", "skip", "rollback")
"""What can be done about a loss, a penalty, a gradient or a weight that is NaN or infinite."""


class FiniteWatch:
    """Whether every result of every step was finite since the last look, and what is done where one was not.

    It is kept on the device; only `complaint` and `check` look at it on the host.

    Args:
        trainer: whose results.
        policy: see `AdversarialTrainer.on_non_finite`.

    Attributes:
        policy: as given.
        largest_result: the largest magnitude of a result since the last look, NaN or infinite where one was; of the
            shape of a result, `()` or `(R,)` with replicas, changed in place.
        skipped: how many updates were left out so far, a 0-d tensor.
        rollbacks: how often training went back to a checkpoint.

    Raises:
        BadValueError: for an unknown policy, or one that does not go with replicas.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> _ = trainer.step(torch.full((4, 2), math.nan))
        >>> str(trainer.watch.complaint())
        'the weights must be finite, got nan at step 1; lower the learning rates, or go on by on_non_finite'
    """

    def __init__(self, trainer: AdversarialTrainer, policy: OnNonFinite = "raise") -> None:
        if policy not in ON_NON_FINITE:
            raise BadValueError(f"on_non_finite must be one of {', '.join(ON_NON_FINITE)}, got {policy!r}")
        if policy != "raise" and trainer.replicas is not None:
            raise BadValueError(
                f"on_non_finite must be 'raise' with replicas, of which those that are finite go on, got {policy!r}"
            )
        types = [p.dtype for p in trainer.generator.parameters() if p.dtype == torch.float64]
        dtype = types[0] if types else torch.float32
        self._trainer = trainer
        self.policy: OnNonFinite = policy
        self.largest_result: Tensor = torch.zeros(trainer.value_shape, dtype=dtype, device=trainer.device)
        self.skipped: Tensor = torch.zeros((), device=trainer.device)
        self.rollbacks: int = 0
        self._skips_told = 0

    def see(self, results: Mapping[str, Tensor]) -> None:
        """Take the results of an update into account; the host does not look."""
        linalg: Any = torch.linalg
        norm: Tensor = linalg.vector_norm(torch.stack([*results.values()]), math.inf, 0)
        torch.maximum(self.largest_result, norm, out=self.largest_result)  # of NaN and a number, NaN

    def check_policy(self) -> None:
        """Raise `BadArgumentsError` where there is nothing to roll back to."""
        if self.policy == "rollback" and self.keeper is None:
            raise BadArgumentsError("on_non_finite='rollback' needs a Checkpointer among the callbacks, got none")

    def complaint(self) -> GankitError | None:
        """Look whether what was trained with and what came out is finite; collective.

        Returns:
            None where everything is, else the error that says what is not. With replicas, one that is finite is enough.
        """
        trainer, feed, skips = self._trainer, self._trainer.feed, self.policy == "skip"
        networks = [trainer.generator, trainer.discriminator]
        networks += [] if trainer.average is None else [trainer.average.network]
        weights = largest([parameter for network in networks for parameter in network.parameters()])
        moments = largest(self._moments())
        nothing = torch.zeros((), device=trainer.device)
        looked = [
            self.largest_result.isfinite().any(),
            feed.all_finite if feed and feed.all_finite is not None else True,
            *(weights or [nothing]),
            *(moments or [nothing]),
        ]
        placed = [torch.as_tensor(one, dtype=torch.float32, device=trainer.device) for one in looked]
        found: Any = torch.stack(placed)
        results, data, weight, moment = found.tolist()
        since = f"in the {trainer.check_every_steps} steps before step {trainer.steps_done}"
        own: GankitError | None = None
        # with `skip`, a batch or a result that is not finite has changed nothing
        if not data and not skips:
            own = NonFiniteDataError(f"batches must be finite, got NaN or infinite values {since}")
        elif not math.isfinite(weight) and trainer.replicas is None:
            own = NonFiniteError(f"the weights must be finite, got {weight} at step {trainer.steps_done}; {_ADVICE}")
        elif not math.isfinite(moment) and trainer.replicas is None:
            own = NonFiniteError(
                f"the optimizers' moments must be finite, got {moment} at step {trainer.steps_done}; {_ADVICE}"
            )
        elif not results and not skips:
            own = NonFiniteError(f"{self._culprit()} {since}; {_ADVICE}")
        [is_data] = trainer.ranks.any(isinstance(own, NonFiniteDataError))
        if is_data and not isinstance(own, NonFiniteDataError):  # all else is the same on every rank
            own = NonFiniteDataError(f"batches must be finite, got NaN or infinite values on another rank {since}")
        return own

    def _moments(self) -> list[Tensor]:
        trainer = self._trainer
        optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
        states = [cast("Iterable[dict[str, Any]]", optimizer.state.values()) for optimizer in optimizers]
        found = [one for of_one in states for state in of_one for one in state.values() if isinstance(one, Tensor)]
        # a count of steps may lie on the host
        return [one for one in found if one.is_floating_point() and one.device == trainer.device]

    def _culprit(self) -> str:
        values: dict[str, Any] = {name: cast(Any, value).tolist() for name, value in self._trainer.metrics.items()}
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                return f"{name} must be finite, got {value}"
        return f"{', '.join(values)} must be finite, got NaN or infinity"

    def check(self) -> bool:
        """Do what the policy says; return whether training is where it was.

        Raises:
            NonFiniteError: for a result or a weight that is not finite, with `raise`; where the others do not help.
            NonFiniteDataError: for a batch that is not, likewise.
        """
        trainer = self._trainer
        error = self.complaint()
        if trainer.feed is not None:
            trainer.feed.all_finite = None
        self.largest_result.zero_()
        if self.policy == "skip":
            self._tell_skipped()
        if error is None:
            return True
        keeper = self.keeper
        if keeper is None or self.policy != "rollback" or self.rollbacks == _MOST_ROLLBACKS:
            raise error
        rollbacks, failed = self.rollbacks + 1, trainer.steps_done
        step = keeper.roll_back(trainer)
        # what was kept knows the rollbacks before it
        lower((trainer.generator_optimizer, trainer.discriminator_optimizer), 0.5 ** (rollbacks - self.rollbacks))
        self.rollbacks = rollbacks
        warn(
            f"training went back from step {failed} to step {step}, and goes on with half the learning rates: {error}",
            NonFiniteWarning,
        )
        return False

    def _tell_skipped(self) -> None:
        trainer = self._trainer
        skipped = int(self.skipped)
        new, self._skips_told = skipped - self._skips_told, skipped
        if not new:
            return
        told = f"{new} updates were left out before step {trainer.steps_done}, whose loss or gradient was not finite"
        if new >= trainer.check_every_steps * (trainer.discriminator_steps + 1):
            raise NonFiniteError(f"{told}: all since the last check; {_ADVICE}")
        warn(told, NonFiniteWarning)

    @property
    def keeper(self) -> Keeper[AdversarialTrainer] | None:
        """The first callback that keeps states, or None."""
        return next((one for one in self._trainer.callbacks if isinstance(one, Keeper)), None)

    def state_dict(self) -> dict[str, Any]:
        """Return what has been noticed and done."""
        return {"largest_result": self.largest_result, "skipped": self.skipped, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned."""
        self.largest_result.copy_(state["largest_result"])
        self.skipped.copy_(state["skipped"])
        self.rollbacks = state["rollbacks"]
        self._skips_told = int(self.skipped)


def all_finite(values: Iterable[Tensor]) -> Tensor:
    """Tell on the device whether values of one shape are all finite, place by place.

    Example:
        >>> all_finite([torch.tensor([1.0, math.inf]), torch.zeros(2)])
        tensor([ True, False])
    """
    return torch.stack([*values]).isfinite().all(0)


def largest(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the largest absolute value in all of the tensors, NaN or infinite where one of them is; of none, nothing.

    Example:
        >>> largest([torch.ones(2), torch.tensor([-3.0])])
        [tensor(3.)]
    """
    if not tensors:
        return []
    norms: Any = torch._foreach_norm(list(tensors), math.inf)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return [torch.stack(list(norms)).max()]


class Undoable:
    """What one half of a step changes, kept aside, to be put back where the half was not finite.

    Args:
        optimizer: whose parameters and state.
        modules: whose buffers.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> undoable = Undoable(torch.optim.SGD(layer.parameters(), lr=0.1), [layer])
        >>> _ = nn.init.zeros_(layer.weight)
        >>> undoable.keep_if(torch.tensor(False))
        >>> layer.weight.item()
        1.0
    """

    def __init__(self, optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module]) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        states = cast("Iterable[dict[str, Any]]", optimizer.state.values())
        moments = [one for state in states for one in state.values() if isinstance(one, Tensor)]
        buffers = {id(one): one for module in modules for one in module.buffers()}
        self._tensors: list[Tensor] = [*parameters, *moments, *buffers.values()]
        with torch.no_grad():
            self._before: list[Tensor] = [one.clone() for one in self._tensors]

    @torch.no_grad()
    def keep_if(self, is_finite: Tensor) -> None:
        """Keep the changes where the 0-d tensor is true, else put back what was there; the host does not look."""
        for one, before in zip(self._tensors, self._before, strict=True):
            one.copy_(torch.where(is_finite, one, before))


def lower(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Multiply learning rates, and those that a schedule began with.

    Example:
        >>> optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.2)
        >>> lower([optimizer], 0.5)
        >>> optimizer.param_groups[0]["lr"]
        0.1
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name in group.keys() & {"lr", "initial_lr"}:
                group[name] = group[name] * factor
