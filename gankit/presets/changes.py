"""The keyword arguments by which a preset is changed, written out so that editors complete and check them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypedDict

import torch
from torch import nn

from gankit.losses import LossSchedule
from gankit.protocols import AdversarialLoss, BuildsLosses, Constraint, Latent, Regularizer, ScheduledLoss
from gankit.registry import Spec
from gankit.training import Execution, OnNonFinite, Precision

Name: TypeAlias = str | Spec


class OptionChanges(TypedDict, total=False):
    """The fields of `Options`."""

    discriminator_steps: int
    discriminator_warmup_steps: int
    averaging_decay: float | None
    averaging_ramp: bool
    max_gradient_norm: float | None
    precision: Precision
    execution: Execution
    share_generator_forward: bool
    simultaneous_updates: bool
    concatenate_discriminator_passes: bool
    on_non_finite: OnNonFinite
    synchronize_batch_norm: bool


class PresetChanges(OptionChanges, total=False):
    """What `Preset.replace` can change: every field, with parts as names or `Spec`s."""

    name: str
    description: str
    data: Name
    sample_shape: tuple[int, ...]
    sample_range: tuple[float, float] | None
    num_classes: int | None
    latent: Name
    generator: Name
    discriminator: Name
    loss: Name | LossSchedule
    regularizers: Sequence[Name]
    generator_optimizer: Name
    discriminator_optimizer: Name
    batch_size: int
    steps: int
    learning_rate_decay: bool
    output_bias_from_data: bool


class Overrides(OptionChanges, total=False):
    """What calling a preset can replace: options, numbers, and parts by name, `Spec`, factory or object."""

    sample_shape: tuple[int, ...]
    sample_range: tuple[float, float] | None
    num_classes: int | None
    latent: Name | Latent
    generator: Name | nn.Module | Callable[..., nn.Module]
    discriminator: Name | nn.Module | Callable[..., nn.Module]
    loss: Name | AdversarialLoss | ScheduledLoss | BuildsLosses | Callable[..., AdversarialLoss]
    regularizers: Sequence[Name | Regularizer | Constraint]
    generator_optimizer: Name | torch.optim.Optimizer | Callable[..., torch.optim.Optimizer]
    discriminator_optimizer: Name | torch.optim.Optimizer | Callable[..., torch.optim.Optimizer]
    learning_rate_decay: bool
    output_bias_from_data: bool
