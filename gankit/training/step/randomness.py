"""The random generators of a training, and their states."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gankit.protocols import Random, State
from gankit.seeds import Stream, replica_seeds, stream_seed


class Randomness:
    """The random generators of a training, on its device: one per purpose, or one per purpose and replica.

    Args:
        device: The device on which numbers are drawn.
        seed: The seed of the training. Replica i draws the numbers of a training with the seed `seed + i`.
        replicas: The number of replicas, or None.
        rank: The number of this process among those that train together. Each rank draws numbers of its own.

    Attributes:
        noise: What training draws from.
        sampling: What `AdversarialTrainer.sample` draws from.

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

        def stream(name: Stream) -> Random:
            return self.generators([stream_seed(own, name, rank) for own in replica_seeds(seed, replicas)])

        self.noise: Random = stream("training noise")
        self.sampling: Random = stream("sampling")

    def generators(self, seeds: Sequence[int]) -> Random:
        """Return new generators on the device: one per replica, or a single one without replicas.

        Args:
            seeds: One seed per replica, or a single one.

        Example:
            >>> generators = Randomness(torch.device("cpu"), seed=0, replicas=2).generators([5, 6])
            >>> [one.initial_seed() for one in generators]
            [5, 6]
        """
        made = [torch.Generator(self._device).manual_seed(seed) for seed in seeds]
        return made[0] if self._replicas is None else made

    @property
    def noises(self) -> list[torch.Generator]:
        """The generators that training draws from, as a list."""
        return _listed(self.noise)

    def default_state(self) -> Tensor:
        """Return the state of torch's default generator of the device, which dropout draws from."""
        if self._device.type == "cpu":
            return torch.get_rng_state()
        return torch.get_device_module(self._device).get_rng_state(self._device)

    def set_default_state(self, state: Tensor) -> None:
        """Set the state that `default_state` returned."""
        if self._device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(self._device).set_rng_state(state, self._device)

    @contextmanager
    def drawn_from(self, random: Random) -> Generator[None]:
        """Let torch's default generators continue from `random` in a `with` block, and then be where they were.

        Networks can draw noise from torch's default generator only. In the block it follows from `random`, which
        afterwards stands where the network has left it, and training, which uses the default generator too, does not
        see it.

        Args:
            random: A generator, or one per replica, of which the first is used. None leaves all as it is.

        Example:
            >>> randomness = Randomness(torch.device("cpu"), seed=0)
            >>> before = torch.get_rng_state()
            >>> with randomness.drawn_from(torch.Generator().manual_seed(7)):
            ...     first = torch.rand(2)
            >>> torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(7)))
            True
            >>> torch.equal(before, torch.get_rng_state())
            True
        """
        if not (generators := _listed(random)):
            yield
            return
        first, default, on_cpu = generators[0], self.default_state(), torch.get_rng_state()
        try:
            self.set_default_state(first.get_state())
            if self._device.type != "cpu":  # whose generator has states of another kind
                torch.default_generator.manual_seed(zlib.crc32(first.get_state().numpy().tobytes()))
            yield
            first.set_state(self.default_state())
        finally:
            self.set_default_state(default)
            torch.set_rng_state(on_cpu)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all generators, including torch's default one."""
        return {
            "noise": _state(self.noise),
            "sampling": _state(self.sampling),
            "default": self.default_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Set the states that `state_dict` returned."""
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
