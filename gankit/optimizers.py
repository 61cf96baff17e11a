"""Optimizers by name: those of `torch.optim` that suit adversarial training, `ReplicaAdam` and `ScheduledSGD`.

It leaves out those that need a closure (LBFGS) or sparse gradients (SparseAdam), or accept only matrices (Muon).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, optim
from typing_extensions import override

from gankit.errors import BadArgumentsError, BadValueError, GankitError, check_count, check_finite, check_positive
from gankit.registry import Registry, Spec

OPTIMIZERS = Registry[optim.Optimizer]("optimizer", group="gankit.optimizers")
"""The classes of torch.optim by their names in lower case; called with the parameters as first argument.

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

_CHECKED_IN_CONSTRUCTOR = {"replica_adam", "scheduled_sgd"}
_FUSED = {"cpu": {"adam", "adamw", "adagrad", "sgd"}, "cuda": {"adam", "adamw", "sgd"}}


def with_fused_update(spec: Spec, device: torch.device) -> Spec:
    """Return the spec with `fused=True` if torch can run the whole update in one kernel on this device.

    A spec that sets `fused`, `foreach` or `differentiable` itself is returned unchanged.

    Example:
        >>> with_fused_update(Spec("adam", lr=0.1), torch.device("cpu"))
        Spec('adam', lr=0.1, fused=True)
        >>> with_fused_update(Spec("rmsprop"), torch.device("cpu"))
        Spec('rmsprop')
    """
    is_chosen = bool(spec.arguments.keys() & {"fused", "foreach", "differentiable"})
    has_kernel = spec.name in _FUSED.get(device.type, ())
    return spec.with_defaults(fused=True) if has_kernel and not is_chosen else spec


def build_optimizer(spec: Spec, parameters: Iterable[Tensor]) -> optim.Optimizer:
    """Build the optimizer of a spec, after a trial of its arguments on a small parameter.

    torch checks some arguments in the constructor and others only in the first updates.

    Args:
        spec: The optimizer's name and arguments.
        parameters: The parameters that it will update.

    Raises:
        UnknownNameError: If no optimizer has this name.
        BadArgumentsError: If the arguments do not match the optimizer's signature.
        BadValueError: If the optimizer cannot work with the arguments.

    Example:
        >>> build_optimizer(Spec("adam", lr=-1.0), [torch.nn.Parameter(torch.zeros(1))])
        Traceback (most recent call last):
        gankit.errors.BadValueError: optimizer adam:lr=-1.0 must have arguments it can work with: Invalid learning \
rate: -1.0
    """
    if spec.name in _CHECKED_IN_CONSTRUCTOR:
        return OPTIMIZERS.build(spec, parameters)
    for name, value in spec.arguments.items():
        numbers = cast("Sequence[Any]", value if isinstance(value, (list, tuple)) else [value])
        for one in numbers:
            if isinstance(one, float) and not math.isfinite(one):
                raise BadValueError(f"optimizer {spec} must have a finite {name}, got {one}")
    parameters = list(parameters)
    device = parameters[0].device if parameters else torch.device("cpu")
    probe = torch.nn.Parameter(torch.zeros(2, 2, device=device))
    try:
        with warnings.catch_warnings():
            # torch warns when a learning rate becomes the square root of a negative number
            warnings.filterwarnings("error", message="Casting complex values")
            trial = OPTIMIZERS.build(spec, [probe])
            if device.type == "cpu":  # the trainer does the same, so that a recipe for CUDA can be used on the CPU
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
    `w <- w - lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + eps)`. torch's Adam computes the same, but accepts
    no vector of learning rates. Updates are counted on the device, in float64, so that a captured step counts them too.

    Args:
        parameters: The parameters to update. Their first dimension is that of the replicas, as in `Stacked`.
        lr: The learning rate of each replica, or one for all of them.
        betas: The decay rates of `m` and `v`.
        eps: The number that is added to the square root.

    Raises:
        BadValueError: If a learning rate is negative, or one of `betas` is outside [0, 1).
        BadArgumentsError: If the numbers of learning rates and of replicas differ.

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


@OPTIMIZERS.register("scheduled_sgd")
class ScheduledSGD(optim.Optimizer):
    """SGD whose momentum grows linearly and whose learning rate decays exponentially (Goodfellow et al. 2014).

    Formula, with t the number of earlier updates: `v <- m_t v - lr_t g`, `w <- w + v`, where `lr_t = max(lr *
    lr_decay^-t, min_lr)` and `m_t` goes linearly from `momentum` at t = 0 to `final_momentum` at `t = momentum_steps`,
    where it stays (Hinton 2010, section 9). Updates are counted on the device, in float64, so that a captured step
    counts them too, and the counts are part of the state. `lr` in `param_groups` is the rate before its decay.

    Args:
        parameters: The parameters to update.
        lr: The learning rate of the first update.
        lr_decay: The number by which the learning rate is divided after each update.
        min_lr: The lowest learning rate.
        momentum: The momentum of the first update.
        final_momentum: The momentum after `momentum_steps` updates. None keeps the first.
        momentum_steps: The number of updates in which the momentum changes.

    Raises:
        BadValueError: If a rate is negative, `lr_decay` is below 1, `momentum_steps` is less than 1, or a momentum is
            outside [0, 1).

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = ScheduledSGD([weight], lr=1.0, lr_decay=2.0, momentum=0.0)
        >>> for _ in range(3):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> weight.data  # -(1 + 1/2 + 1/4)
        tensor([-1.7500])
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 0.1,
        lr_decay: float = 1.0,
        min_lr: float = 0.0,
        momentum: float = 0.5,
        final_momentum: float | None = None,
        momentum_steps: int = 1,
    ) -> None:
        check_positive("lr", lr, zero=True)
        check_positive("min_lr", min_lr, zero=True)
        check_finite("lr_decay", lr_decay)
        check_count("momentum_steps", momentum_steps)
        if lr_decay < 1:
            raise BadValueError(f"lr_decay must be 1 or more, got {lr_decay}")
        last = momentum if final_momentum is None else final_momentum
        for name, value in (("momentum", momentum), ("final_momentum", last)):
            if not 0 <= value < 1:
                raise BadValueError(f"{name} must be in [0, 1), got {value}")
        schedule = {"lr_decay": lr_decay, "min_lr": min_lr, "momentum": momentum, "final_momentum": last}
        super().__init__(parameters, {"lr": lr, **schedule, "momentum_steps": momentum_steps})

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            first, growth = group["momentum"], group["final_momentum"] - group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state: dict[str, Tensor] = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float64, device=parameter.device)
                    state["velocity"] = torch.zeros_like(parameter)
                count, velocity = state["step"], state["velocity"]
                rate = (group["lr"] * group["lr_decay"] ** -count).clamp(min=group["min_lr"]).to(parameter.dtype)
                momentum = first + growth * (count / group["momentum_steps"]).clamp(max=1)
                velocity.mul_(momentum.to(parameter.dtype)).addcmul_(parameter.grad, rate, value=-1)
                parameter.add_(velocity)
                count += 1
