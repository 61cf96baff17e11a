"""Optimizers by name: `OPTIMIZERS` holds those of `torch.optim` that fit adversarial training.

Left out are the ones that need a closure (LBFGS), sparse gradients (SparseAdam) or only take matrices (Muon).
"""

from __future__ import annotations

import torch
from torch import optim

from gankit.registry import Registry, Spec

OPTIMIZERS = Registry[optim.Optimizer]("optimizer", group="gankit.optimizers")
"""torch.optim's classes, by their names in lower case; built with the parameters first.

Example:
    >>> OPTIMIZERS.build("sgd", [torch.nn.Parameter(torch.zeros(1))], lr=0.1).defaults["lr"]
    0.1
"""

for _optimizer in (
    optim.Adadelta,
    optim.Adafactor,
    optim.Adagrad,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.ASGD,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
):
    OPTIMIZERS.register(_optimizer.__name__.lower(), _optimizer)

_FUSED = {"cpu": {"adam", "adamw", "adagrad", "sgd"}, "cuda": {"adam", "adamw", "sgd"}}


def with_fused_update(spec: Spec, device: torch.device) -> Spec:
    """Return the spec with `fused=True` where torch has one kernel for the whole update on this device.

    What the spec itself says of `fused`, `foreach` or `differentiable` stays.

    Example:
        >>> with_fused_update(Spec("adam", lr=0.1), torch.device("cpu"))
        Spec('adam', lr=0.1, fused=True)
        >>> with_fused_update(Spec("rmsprop"), torch.device("cpu"))
        Spec('rmsprop')
    """
    chosen = spec.arguments.keys() & {"fused", "foreach", "differentiable"}
    fused = spec.name in _FUSED.get(device.type, ()) and not chosen
    return spec.with_defaults(fused=True) if fused else spec
