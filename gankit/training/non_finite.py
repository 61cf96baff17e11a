"""What `fit` does about NaN and infinity: look for them on the host now and then, and follow the policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from gankit.errors import BadArgumentsError, GankitError, NonFiniteDataError, NonFiniteError, NonFiniteWarning, warn
from gankit.training.feed import Feed
from gankit.training.parallel.ranks import Ranks
from gankit.training.step import learning_rates
from gankit.training.step.finite import largest_magnitude, optimizer_tensors
from gankit.training.step.options import Options
from gankit.training.step.state import TrainingState

_ADVICE = "lower the learning rates, or set on_non_finite"
_MOST_ROLLBACKS = 5

RollBack = Callable[[], int]
"""A function that puts the training back to its newest checkpoint, and returns the step of that."""


class NonFiniteCheck:
    """Looks whether a training is finite, and does what `on_non_finite` says if it is not.

    Args:
        state: The training.
        options: Its options.
        ranks: The processes that train together.
        check_every_steps: The number of steps between two checks, which the messages mention.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> _ = trainer.step(torch.full((4, 2), math.nan))
        >>> check = NonFiniteCheck(trainer.state, trainer.options, trainer.ranks, 100)
        >>> str(check.complaint(None))
        'the weights must be finite, got nan at step 1; lower the learning rates, or set on_non_finite'
    """

    def __init__(self, state: TrainingState, options: Options, ranks: Ranks, check_every_steps: int) -> None:
        self._state = state
        self._ranks = ranks
        self._steps_between = check_every_steps
        self._updates_between = check_every_steps * (options.discriminator_steps + 1)

    def complaint(self, feed: Feed | None) -> GankitError | None:
        """Look at the data, results, weights, buffers and moments, in one transfer. This is collective.

        Args:
            feed: Where the batches come from, or None before the first one.

        Returns:
            The error that says what is not finite, or None. With replicas, one that is finite is enough.
        """
        state, skips = self._state, self._state.watch.policy == "skip"
        networks = [state.generator, state.discriminator, *([] if state.average is None else [state.average.network])]
        weights = largest_magnitude([parameter for network in networks for parameter in network.parameters()])
        statistics, buffers = map(largest_magnitude, self._buffers())
        moments = largest_magnitude(self._moments())
        zero = torch.zeros((), device=state.device)
        found = [
            state.watch.largest_result.isfinite().any(),
            feed.all_finite if feed is not None and feed.all_finite is not None else True,
            *(weights or [zero]),
            *(moments or [zero]),
            *(statistics or [zero]),
            *(buffers or [zero]),
        ]
        placed: Any = torch.stack([torch.as_tensor(one, dtype=torch.float32, device=state.device) for one in found])
        results, data, weight, moment, statistic, buffer = placed.tolist()
        since = f"in the {self._steps_between} steps before step {state.steps_done}"
        own: GankitError | None = None
        # with `skip`, a batch or a result that is not finite has changed nothing
        if not data and not skips:
            own = NonFiniteDataError(f"batches must be finite, got NaN or infinite values {since}")
        elif not math.isfinite(weight) and state.replicas is None:
            own = NonFiniteError(f"the weights must be finite, got {weight} at step {state.steps_done}; {_ADVICE}")
        elif (not math.isfinite(statistic) or math.isnan(buffer)) and state.replicas is None:
            found_value = buffer if math.isnan(buffer) else statistic
            own = NonFiniteError(f"the buffers must be finite, got {found_value} at step {state.steps_done}; {_ADVICE}")
        elif not math.isfinite(moment) and state.replicas is None:
            own = NonFiniteError(
                f"the optimizers' moments must be finite, got {moment} at step {state.steps_done}; {_ADVICE}"
            )
        elif not results and not skips:
            own = NonFiniteError(f"{self._culprit()} {since}; {_ADVICE}")
        [is_data] = self._ranks.any(isinstance(own, NonFiniteDataError))
        if is_data and not isinstance(own, NonFiniteDataError):  # everything but the data is the same on every rank
            own = NonFiniteDataError(f"batches must be finite, got NaN or infinite values on another rank {since}")
        return own

    def check(self, feed: Feed | None, roll_back: RollBack | None) -> bool:
        """Look at the training, follow the policy, and return whether the training is still at the same step.

        Args:
            feed: Where the batches come from.
            roll_back: How to go back to the newest checkpoint, or None without checkpoints.

        Raises:
            NonFiniteError: for a result or a weight that is not finite, with `raise`, or where the policy has not
                helped.
            NonFiniteDataError: for a batch that is not finite, under the same conditions.
        """
        state, watch = self._state, self._state.watch
        error = self.complaint(feed)
        if feed is not None:
            feed.all_finite = None
        watch.largest_result.zero_()
        if watch.policy == "skip":
            self._report_skips()
        if error is None:
            return True
        if roll_back is None or watch.policy != "rollback" or watch.rollbacks == _MOST_ROLLBACKS:
            raise error
        rollbacks, failed = watch.rollbacks + 1, state.steps_done
        step = roll_back()
        # the checkpoint has been trained with the rates of its own number of rollbacks
        learning_rates.scale(state.optimizers, 0.5 ** (rollbacks - watch.rollbacks))
        watch.rollbacks = rollbacks
        warn(
            f"training went back from step {failed} to step {step}, and continues with half the learning rates: "
            f"{error}",
            NonFiniteWarning,
        )
        return False

    def check_policy(self, roll_back: RollBack | None) -> None:
        """Raise `BadArgumentsError` for the policy `rollback` without checkpoints to go back to."""
        if self._state.watch.policy == "rollback" and roll_back is None:
            raise BadArgumentsError("on_non_finite='rollback' needs a Checkpointer among the callbacks, got none")

    def _moments(self) -> list[Tensor]:
        found = [one for optimizer in self._state.optimizers for one in optimizer_tensors(optimizer)]
        # an optimizer's count of steps may be on the host
        return [one for one in found if one.is_floating_point() and one.device == self._state.device]

    def _buffers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return running statistics, which must be finite, and other buffers, such as masks, which may be infinite."""
        state, found = self._state, cast("tuple[list[Tensor], list[Tensor]]", ([], []))
        modules = [*state.modules(), *([] if state.average is None else [state.average.network])]
        for layer in {id(layer): layer for module in modules for layer in module.modules()}.values():
            for buffer in layer.buffers(recurse=False):
                if buffer.is_floating_point() and buffer.device == state.device and buffer.numel():
                    found[not isinstance(layer, _NormBase)].append(buffer)
        return found

    def _culprit(self) -> str:
        newest = self._state.metrics.newest
        values: dict[str, Any] = {name: cast(Any, value).tolist() for name, value in newest.items()}
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                return f"{name} must be finite, got {value}"
        return f"{', '.join(values)} must be finite, got NaN or infinity"

    def _report_skips(self) -> None:
        watch = self._state.watch
        skipped = int(watch.skipped)
        new, watch.reported_skips = skipped - watch.reported_skips, skipped
        if not new:
            return
        report = (
            f"{new} updates were skipped before step {self._state.steps_done}, whose loss or gradient was not finite"
        )
        if new >= self._updates_between:
            raise NonFiniteError(f"{report}: all since the last check; {_ADVICE}")
        warn(report, NonFiniteWarning)
