"""Optimizers by name: `OPTIMIZERS` holds those of `torch.optim` that fit adversarial training.

Left out are the ones that need a closure (LBFGS), sparse gradients (SparseAdam) or only take matrices (Muon).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from typing_extensions import override

from gankit.errors import BadArgumentsError, BadValueError, GankitError, check_positive
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

_OWN_CHECKS = {"replica_adam"}
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


def build_optimizer(spec: Spec, parameters: Iterable[Tensor]) -> optim.Optimizer:
    """Return the optimizer of a spec, having tried its arguments on a parameter of its own.

    torch looks at some arguments in the constructor, at others in the first updates.

    Raises:
        UnknownNameError: for an unknown name.
        BadArgumentsError: for arguments that do not fit the optimizer's signature.
        BadValueError: for arguments that the optimizer cannot work with.

    Example:
        >>> build_optimizer(Spec("adam", lr=-1.0), [torch.nn.Parameter(torch.zeros(1))])
        Traceback (most recent call last):
        gankit.errors.BadValueError: optimizer adam:lr=-1.0 must have arguments it can work with: Invalid learning \
rate: -1.0
    """
    if spec.name in _OWN_CHECKS:
        return OPTIMIZERS.build(spec, parameters)
    parameters = list(parameters)
    device = parameters[0].device if parameters else torch.device("cpu")
    probe = torch.nn.Parameter(torch.zeros(2, 2, device=device))
    try:
        with warnings.catch_warnings():
            # a rate that became a root of a negative number
            warnings.filterwarnings("error", message="Casting complex values")
            trial = OPTIMIZERS.build(spec, [probe])
            if device.type == "cpu":  # as the trainer does: a recipe for CUDA can be looked at on the CPU
                trial.param_groups[0]["capturable"] = False
            for _ in range(2):
                probe.grad = torch.ones_like(probe)
                trial.step()
    except (UserWarning, TypeError, ValueError, RuntimeError, ArithmeticError, IndexError, AssertionError) as error:
        if isinstance(error, GankitError):
            raise
        reason = str(error).partition("\n")[0]
        raise BadValueError(f"optimizer {spec} must have arguments it can work with: {reason}") from error
    return OPTIMIZERS.build(spec, parameters)


@OPTIMIZERS.register("replica_adam")
class ReplicaAdam(optim.Optimizer):
    """Adam with a learning rate for each replica (Kingma & Ba 2015, alg. 1).

    Formula, with t the number of updates: `m <- beta_1 m + (1 - beta_1) g`, `v <- beta_2 v + (1 - beta_2) g^2`,
    `w <- w - lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + eps)`. It is torch's Adam, which takes no vector
    of rates. The updates are counted on the device, in float64, so that a captured step does the same.

    Args:
        parameters: whose first dimension is the replicas', as `Stacked` makes them.
        lr: the rate of each replica, or one for all.
        betas: how much of `m` and of `v` stays at an update.
        eps: added to the root.

    Raises:
        BadValueError: for a rate that is negative, or betas outside [0, 1).
        BadArgumentsError: for another number of rates than of replicas.

    Example:
        >>> weights = torch.nn.Parameter(torch.zeros(2, 3))
        >>> optimizer = ReplicaAdam([weights], lr=[0.1, 0.2])
        >>> weights.grad = torch.ones(2, 3)
        >>> optimizer.step()
        >>> weights.data[:, 0]
        tensor([-0.1000, -0.2000])
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float | Sequence[float] = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        rates = [lr] if isinstance(lr, (int, float)) else list(lr)
        if not rates:
            raise BadValueError("lr must be one rate, or one for each replica, got none")
        for rate in rates:
            check_positive("lr", rate, zero=True)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise BadValueError(f"betas must be two numbers in [0, 1), got {tuple(betas)}")
        check_positive("eps", eps)
        super().__init__(parameters, {"lr": rates, "betas": tuple(betas), "eps": eps})
        for group in self.param_groups:
            first: Tensor = group["params"][0]
            for parameter in group["params"]:
                if len(rates) > 1 and parameter.shape[:1] != (len(rates),):
                    raise BadArgumentsError(
                        f"lr must be one rate, or one for each replica, got {len(rates)} for a parameter of shape "
                        f"{tuple(parameter.shape)}"
                    )
            group["lr"] = torch.tensor(rates, dtype=torch.float64, device=first.device)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            first_beta, second_beta = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state: dict[str, Tensor] = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float64, device=parameter.device)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                count, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
                count += 1
                mean.lerp_(parameter.grad, 1 - first_beta)
                square.mul_(second_beta).addcmul_(parameter.grad, parameter.grad, value=1 - second_beta)
                rate = group["lr"] / (1 - first_beta**count)
                rate = rate.to(parameter.dtype).view(-1, *[1] * (parameter.ndim - 1))
                correction = (1 - second_beta**count).sqrt().to(parameter.dtype)
                parameter.sub_(rate * mean / (square.sqrt() / correction + group["eps"]))
