"""NaN and infinity in a step: recorded on the device, and kept out of an update, without a read by the host."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gankit.errors import BadValueError
from gankit.protocols import State
from gankit.training.step.gradients import held_parameters
from gankit.training.step.options import OnNonFinite


class FiniteWatch:
    """What the steps have recorded of NaN and infinity, on the device, and what was done about them.

    Args:
        policy: See `AdversarialTrainer`, `on_non_finite`.
        value_shape: The shape of one named result: `()`, or `(R,)` with replicas.
        dtype: The type in which magnitudes are kept.
        device: The device of the training.

    Attributes:
        policy: As given.
        largest_result: The largest magnitude of a result since the last check, NaN or infinite if one was. It has the
            shape of a result and is changed in place.
        skipped: The number of updates that were skipped so far, as a 0-d tensor.
        reported_skips: How many of them a warning has already reported.
        rollbacks: How often training went back to a checkpoint.

    Raises:
        BadValueError: for a policy other than `raise` with replicas.

    Example:
        >>> watch = FiniteWatch("raise")
        >>> watch.see({"discriminator_loss": torch.tensor(0.5), "generator_loss": torch.tensor(-math.inf)})
        >>> watch.largest_result
        tensor(inf)
    """

    def __init__(
        self,
        policy: OnNonFinite = "raise",
        *,
        value_shape: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        if policy != "raise" and value_shape:
            raise BadValueError(
                f"on_non_finite must be 'raise' with replicas, where those that are finite continue, got {policy!r}"
            )
        self.policy: OnNonFinite = policy
        self.largest_result: Tensor = torch.zeros(value_shape, dtype=dtype, device=device)
        self.skipped: Tensor = torch.zeros((), dtype=torch.float32, device=device)
        self.reported_skips: int = 0
        self.rollbacks: int = 0

    def see(self, results: Mapping[str, Tensor]) -> None:
        """Record the results of one update."""
        linalg: Any = torch.linalg
        norm: Tensor = linalg.vector_norm(torch.stack([*results.values()]), math.inf, 0)
        torch.maximum(self.largest_result, norm, out=self.largest_result)  # the maximum of NaN and a number is NaN

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step changes."""
        return [self.largest_result, self.skipped]

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded and done."""
        return {"largest_result": self.largest_result, "skipped": self.skipped, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` returned."""
        self.largest_result.copy_(state["largest_result"])
        self.skipped.copy_(state["skipped"])
        self.rollbacks = state["rollbacks"]
        self.reported_skips = int(self.skipped)


class Undoable:
    """A copy of what one half of a step changes, to be put back if the half was not finite.

    Args:
        optimizer: The optimizer whose parameters and state are kept.
        modules: The modules whose buffers are kept.

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
        parameters = held_parameters(optimizer)
        buffers = {id(one): one for module in modules for one in module.buffers()}
        self._tensors: list[Tensor] = [*parameters, *optimizer_tensors(optimizer), *buffers.values()]
        with torch.no_grad():
            self._before: list[Tensor] = [one.clone() for one in self._tensors]

    @torch.no_grad()
    def keep_if(self, is_finite: Tensor) -> None:
        """Keep the changes if the 0-d tensor is true, and otherwise undo them, without a read by the host."""
        for one, before in zip(self._tensors, self._before, strict=True):
            one.copy_(torch.where(is_finite, one, before))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state, such as its moments.

    Example:
        >>> optimizer_tensors(torch.optim.Adam([torch.zeros(1)]))
        []
    """
    states = cast("Iterable[dict[str, Any]]", optimizer.state.values())
    return [one for state in states for one in state.values() if isinstance(one, Tensor)]


def all_finite(values: Iterable[Tensor]) -> Tensor:
    """Return elementwise, on the device, whether all of several tensors of one shape are finite.

    Example:
        >>> all_finite([torch.tensor([1.0, math.inf]), torch.zeros(2)])
        tensor([ True, False])
    """
    return torch.stack([*values]).isfinite().all(0)


def largest_magnitude(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the largest absolute value in all tensors, NaN or infinite if one of them is. No tensors give no value.

    Example:
        >>> largest_magnitude([torch.ones(2), torch.tensor([-3.0])])
        [tensor(3.)]
    """
    if not tensors:
        return []
    norms: Any = torch._foreach_norm(list(tensors), math.inf)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return [torch.stack(list(norms)).max()]
