"""Hooks of networks, parameters and optimizers: functions that Python calls in a step, and that a program would not."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook  # pyright: ignore[reportPrivateUsage]
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gankit.training.step.state import TrainingState

_OF_LAYERS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OF_OPTIMIZERS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


class HookWatch:
    """Tells whether a training has hooks, without a look at every layer in every step.

    Args:
        state: The state whose networks and optimizers are watched.

    Example:
        >>> from gankit.presets import ring
        >>> trainer = ring(device="cpu")
        >>> watch = HookWatch(trainer.state)
        >>> watch.found()
        >>> _ = trainer.generator.register_forward_hook(lambda *_: None)
        >>> watch.found()
        'MLPGenerator has a hook, which a compiled or captured step would not call'
    """

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._key: tuple[object, ...] = ()

    def found(self) -> str | None:
        """Return what has a hook, in words, if a hook was registered since the last call. torch's own do not count.

        The whole training is looked at again if a network or an optimizer has been replaced.
        """
        state = self._state
        # every new hook in the process counts up the next id
        key = RemovableHandle.next_id, state.generator, state.discriminator, *state.optimizers
        if key == self._key:
            return None
        self._key = key
        watched: list[tuple[nn.Module | Tensor | Optimizer, tuple[str, ...]]] = []
        for network in (state.generator, state.discriminator):
            watched += [(layer, _OF_LAYERS) for layer in network.modules()]
            watched += [(parameter, _OF_PARAMETERS) for parameter in network.parameters()]
        watched += [(optimizer, _OF_OPTIMIZERS) for optimizer in state.optimizers]
        for one, names in watched:
            found: list[dict[int, Any]] = [getattr(one, name) or {} for name in names]
            modules = [str(getattr(hook, "__module__", "")) for hooks in found for hook in hooks.values()]
            if not all(module.startswith("torch.") for module in modules):
                return f"{type(one).__name__} has a hook, which a compiled or captured step would not call"
        if _has_any_global_hook():
            return "a hook is registered for all modules, which a compiled or captured step would not call"
        return None
