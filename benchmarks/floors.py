"""Two lower bounds on the time of a step: what it must compute, and what it must move.

    arithmetic floor = FLOPs of one step / FLOP/s of a large matrix product in the same precision
    memory floor     = bytes of one step / bytes/s of a large copy

Both rates are measured on the device in the run that uses them. A step that takes exactly as long as its floor has the
fraction 1. For networks as small as those of `vanilla_mnist`, the memory floor may be too high, because data that stay
in a GPU's cache from one step to the next move faster than a large copy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.timing import seconds_per_step
from gankit import AdversarialTrainer

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _Counting(TorchDispatchMode):
    """Adds up operations. `FlopCounterMode` cannot, because its hooks refuse `autograd.grad`, which penalties use."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def step_flops(trainer: AdversarialTrainer, batch: torch.Tensor) -> float:
    """Return the floating-point operations of one step in matrix products and convolutions.

    The function makes an eager step and counts by torch's own formulas (`torch.utils.flop_counter`): 2 for each
    multiplication with its addition, forward and backward, in both networks. Activations, losses and optimizers do not
    count. For perceptrons without penalties, and with N samples in a batch, the number is

        2 N (4 g + 8 d - g1 - 2 d1)

    where g and d are the numbers of weights of G and D, and g1 and d1 those of their first layers. D's half runs G once
    and D twice forward, and D twice backward: to its weights and, except in the first layer, to the inputs of its
    layers. G's half runs both once forward, D backward to its input only, and G backward to its weights and between its
    layers.

    A penalty that is due in every n-th step counts one n-th of its operations.

    Args:
        trainer: An eager trainer without replicas. Its steps are really made.
        batch: Real samples. The operations are proportional to their number.
    """
    period = math.lcm(*(part.every for part in trainer.regularizers.values())) if trainer.regularizers else 1
    total = 0
    for _ in range(period):
        with _Counting() as counter:
            trainer.step(*[batch] * trainer.discriminator_steps)
        total += counter.flops
    return total / period


def update_bytes(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes that one update of a network moves.

        2 x (parameters + gradients + the optimizer's states of their shape)

    Each of them is read once and written once. Adam has two such states, which makes 2 x 4 x 4 bytes for each float32
    parameter. The optimizer must have made a step.
    """
    total = 0
    for parameter in network.parameters():
        if parameter.requires_grad:
            states = [value for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor)]
            shaped = sum(value.nbytes for value in states if value.shape == parameter.shape)
            total += 2 * (2 * parameter.nbytes + shaped)
    return total


def step_bytes(trainer: AdversarialTrainer, batch: torch.Tensor, activation_bytes: int = 4) -> int:
    """Return the least number of bytes that one step must move.

        updates of D x update_bytes(D) + update_bytes(G)
        + 2 x the outputs of every Linear and convolution in every pass of the step (written once, read once)
        + one byte for each value of each real batch (the pixels, read once)

    BatchNorm and activations between two such layers do not count, because they could be computed where the outputs
    are read. A penalty's second backward pass does not count for the same reason.

    Args:
        trainer: An eager trainer without replicas. One of its steps is really made.
        batch: Real samples.
        activation_bytes: The size of one value between layers: 4, or 2 in bfloat16.
    """
    values = 0

    def count(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal values
        values += output.numel()

    layers = [one for net in (trainer.generator, trainer.discriminator) for one in net.modules()]
    hooks = [layer.register_forward_hook(count) for layer in layers if isinstance(layer, LAYERS)]
    try:
        trainer.step(*[batch] * trainer.discriminator_steps)
    finally:
        for hook in hooks:
            hook.remove()
    updates = update_bytes(trainer.generator, trainer.generator_optimizer)
    updates += trainer.discriminator_steps * update_bytes(trainer.discriminator, trainer.discriminator_optimizer)
    return updates + 2 * activation_bytes * values + trainer.discriminator_steps * batch.numel()


@dataclass(frozen=True)
class Work:
    """The work of one step. `of` derives it from two small steps for any batch size and number of replicas.

    The operations are proportional to the batch size. The bytes are the sum of a constant, for the updates, and a part
    that is proportional to the batch size.

    Args:
        flops: The floating-point operations.
        bytes: The bytes to move.
    """

    flops: float
    bytes: float

    @classmethod
    def of(
        cls,
        make_trainer: Callable[[], AdversarialTrainer],
        sample_shape: tuple[int, ...],
        *,
        batch_size: int,
        replicas: int | None = None,
        activation_bytes: int = 4,
    ) -> Work:
        """Count the work of a step.

        Args:
            make_trainer: A function that builds an eager trainer on the CPU, without replicas.
            sample_shape: The shape of one sample.
            batch_size: The number of samples in a batch.
            replicas: The number of models that are trained side by side, or None for a single one.
            activation_bytes: The size of one value between layers; see `step_bytes`.
        """
        trainer = make_trainer()
        two, four = (torch.zeros(count, *sample_shape) for count in (2, 4))
        flops = step_flops(trainer, two) / 2
        at_two, at_four = (step_bytes(trainer, one, activation_bytes) for one in (two, four))
        a_sample = (at_four - at_two) / 2
        models = replicas or 1
        return cls(models * batch_size * flops, models * (at_two + a_sample * (batch_size - 2)))


@dataclass
class Peaks:
    """The highest rates of a device that were measured. A busy machine can only show lower ones.

    Args:
        device: The device.
        flops: The FLOP/s of a large square matrix product, for each precision.
        copied: The bytes/s of a large copy, which counts bytes read and bytes written; 0 if it was not measured.
    """

    device: torch.device
    flops: dict[str, float] = field(default_factory=dict)
    copied: float = 0.0

    def measure(self, precision: str) -> None:
        """Measure a copy, and a product in `float32`, `tf32` or `bfloat16`; keep the higher rates."""
        is_cuda = self.device.type == "cuda"
        if is_cuda and precision in self.flops:
            return  # a GPU is not shared, so one measurement is enough
        # an emulated product of large matrices would take seconds
        size = 8192 if is_cuda else 512 if precision == "bfloat16" and emulates_bfloat16(self.device) else 1024
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else before
        try:
            rate = 2 * size**3 / self._fastest(lambda: torch.mm(a, b))
        finally:
            torch.backends.cuda.matmul.fp32_precision = before
        self.flops[precision] = max(rate, self.flops.get(precision, 0.0))
        source = torch.zeros(2**30 if is_cuda else 2**27, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        self.copied = max(2 * source.numel() / self._fastest(lambda: target.copy_(source)), self.copied)

    def _fastest(self, run: Callable[[], object]) -> float:
        def repeat(times: int) -> None:
            for _ in range(times):
                run()

        start, found = time.perf_counter(), []
        while len(found) < 3 or time.perf_counter() - start < 0.3:
            found.append(seconds_per_step(repeat, 10 if self.device.type == "cuda" else 1, self.device))
        return min(found)


def emulates_bfloat16(device: torch.device) -> bool:
    """Return whether the device is a CPU without instructions for products in bfloat16."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def arithmetic_floor(work: Work, flops_per_second: float) -> float:
    """Return the least time in seconds for the arithmetic of one step: `FLOPs / (FLOP/s)`."""
    return work.flops / flops_per_second


def memory_floor(work: Work, bytes_per_second: float) -> float:
    """Return the least time in seconds for moving the bytes of one step: `bytes / (bytes/s)`."""
    return work.bytes / bytes_per_second
