"""The random numbers of a training: where they come from, and their state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gankit.protocols import Random, State
from gankit.seeds import Stream, stream_seed


class Randomness:
    """The random generators of a trainer, on its device: one of each kind, or one a replica.

    Args:
        device: where numbers are drawn.
        seed: the trainer's. Replica i has the numbers of a trainer with the seed `seed + i`.
        replicas: how many, or None.
        rank: of which of the processes that train together; each draws other numbers.

    Attributes:
        noise: what training draws from.
        sampling: what `AdversarialTrainer.sample` draws from.

    Example:
        >>> randomness = Randomness(torch.device("cpu"), seed=0)
        >>> state = randomness.state_dict()
        >>> first = torch.rand(1, generator=randomness.noise)
        >>> randomness.load_state_dict(state)
        >>> torch.equal(first, torch.rand(1, generator=randomness.noise))
        True
    """

    def __init__(self, device: torch.device, seed: int, replicas: int | None = None, rank: int = 0) -> None:
        self._device = device
        self._replicas = replicas

        def of(stream: Stream) -> Random:
            return self.seeded(lambda i: stream_seed(seed + i, stream, rank))

        self.noise: Random = of("training noise")
        self.sampling: Random = of("sampling")

    def seeded(self, seed: Callable[[int], int]) -> Random:
        """Return a generator, or one a replica, with the seed of each."""
        made = [torch.Generator(self._device).manual_seed(seed(i)) for i in range(self._replicas or 1)]
        return made[0] if self._replicas is None else made

    @property
    def noises(self) -> list[torch.Generator]:
        """The generators that training draws from, in a list."""
        return _listed(self.noise)

    def default_state(self) -> Tensor:
        """Return the state of torch's default generator of this device, which dropout draws from."""
        if self._device.type == "cpu":
            return torch.get_rng_state()
        return torch.get_device_module(self._device).get_rng_state(self._device)

    def set_default_state(self, state: Tensor) -> None:
        """Set what `default_state` returned."""
        if self._device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(self._device).set_rng_state(state, self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all generators, torch's default one among them."""
        return {
            "noise": _state(self.noise),
            "sampling": _state(self.sampling),
            "default": self.default_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Set what `state_dict` returned."""
        _set_state(self.noise, state["noise"])
        _set_state(self.sampling, state["sampling"])
        self.set_default_state(state["default"].cpu())


def _listed(random: Random) -> list[torch.Generator]:
    return [random] if isinstance(random, torch.Generator) else list(random or ())


def _state(random: Random) -> Any:
    states = [one.get_state() for one in _listed(random)]
    return states if isinstance(random, Sequence) else states[0]


def _set_state(random: Random, state: Any) -> None:
    for one, own in zip(_listed(random), state if isinstance(random, Sequence) else [state], strict=True):
        one.set_state(own.cpu())
