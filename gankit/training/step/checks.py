"""Checks of networks and optimizers, before anything is trained.

Shapes are found by running the networks on fake tensors, which takes no memory, draws no random numbers and changes no
buffer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gankit.errors import BadArgumentsError, BadValueError, DeviceError, GankitError, ShapeError
from gankit.protocols import MixesSamples, batch_multiple_of
from gankit.training.parallel.batch_norm import SynchronizedBatchNorm

MIXING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, SynchronizedBatchNorm)
"""The layers that mix the samples of a batch."""
_ABOUT_SHAPES = re.compile(r"shape|size|\bdim|\dD\b|channels|broadcast", re.IGNORECASE)


def check_shapes(
    generator: nn.Module,
    discriminator: nn.Module,
    latent_shape: Sequence[int],
    condition: Tensor | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[int, ...] | None:
    """Return the shape of the generator's samples, after a check that both networks fit together.

    Args:
        generator: G.
        discriminator: D.
        latent_shape: The shape of one latent.
        condition: A condition of the right shape, for networks that take one.
        device: The device of the networks.
        dtype: The type of the latents.

    Returns:
        The shape of one sample, or None if only a condition or a run on real tensors would show it.

    Raises:
        ShapeError: for networks that do not fit the latent or each other.

    Example:
        >>> check_shapes(nn.Linear(10, 3), nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), (10,))
        (3,)
    """
    # a discriminator that joins samples, as packing does, has an attribute that says how many
    count = 2 * batch_multiple_of(discriminator) if condition is None else len(condition)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        latents = torch.empty(count, *latent_shape, device=device, dtype=dtype)
    samples = _dry_run(mode, "generator", generator, latents, condition)
    if samples is None:
        return None
    if samples.ndim < 2 or samples.shape[0] != count:
        raise ShapeError(
            f"the generator must return samples of shape ({count}, *sample_shape) for {count} latents, "
            f"got {tuple(samples.shape)}"
        )
    logits = _dry_run(mode, "discriminator", discriminator, samples, condition)
    if logits is None:
        return None
    if logits.shape != (count,):
        raise ShapeError(
            f"the discriminator must return logits of shape ({count},) for {count} samples, got "
            f"{tuple(logits.shape)}; (N, 1) becomes (N,) by .squeeze(-1)"
        )
    return tuple(samples.shape[1:])


def _dry_run(
    mode: FakeTensorMode, role: str, network: nn.Module, inputs: Tensor, condition: Tensor | None
) -> Tensor | None:
    tensors = dict(chain(network.named_parameters(), network.named_buffers()))
    fakes: dict[str, Tensor] = {name: mode.from_tensor(tensor) for name, tensor in tensors.items()}
    arguments = (inputs,) if condition is None else (inputs, mode.from_tensor(condition))
    try:
        with mode, torch.no_grad(), _quiet(logging.getLogger("torch._subclasses.fake_tensor")):
            return torch.func.functional_call(network, fakes, arguments)
    except TypeError:
        if condition is None:
            return None  # the network takes a condition, and none is known yet
        raise BadArgumentsError(
            f"the batches carry a condition of shape {tuple(condition.shape)}, which the {role} "
            f"{type(network).__name__} does not take; give batches without one, or networks built with num_classes"
        ) from None
    except GankitError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        if not _ABOUT_SHAPES.search(reason):
            return None  # an operation that needs real values
        raise ShapeError(
            f"the {role} {type(network).__name__} does not fit inputs of shape {tuple(inputs.shape)}: {reason}"
        ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Generator[None]:
    """Keep torch from logging a traceback of what is reported here in one sentence."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def check_optimizer(name: str, optimizer: object, network: nn.Module) -> None:
    """Raise `BadArgumentsError` unless `optimizer` is a torch optimizer over parameters of `network`.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> check_optimizer("generator_optimizer", torch.optim.SGD(layer.parameters()), layer)
    """
    role = name.removesuffix("_optimizer")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise BadArgumentsError(
            f"{name} must be a torch.optim.Optimizer over the {role}'s parameters, got {optimizer!r}"
        )
    own = {id(parameter) for parameter in network.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strangers = sum(id(parameter) not in own for parameter in held)
    if strangers:
        raise BadArgumentsError(
            f"{name} must hold the {role}'s parameters, got {strangers} of {len(held)} that are not; make it "
            f"from this {role}'s .parameters()"
        )


def check_plain(name: str, network: nn.Module) -> None:
    """Raise `BadArgumentsError` for a network whose gradients another object collects.

    `DistributedDataParallel` and `fully_shard` do so in hooks of `.backward()`, which `torch.autograd.grad` does not
    run: each rank would train a model of its own.

    Example:
        >>> check_plain("generator", nn.Linear(1, 1))
    """
    for layer in network.modules():
        if isinstance(layer, nn.parallel.DistributedDataParallel):
            raise BadArgumentsError(
                f"{name} must be the network itself, got one inside DistributedDataParallel; the trainer averages the "
                "gradients"
            )
    for key, parameter in network.named_parameters():
        if getattr(parameter, "device_mesh", None) is not None:
            raise BadArgumentsError(
                f"{name} must have its weights whole on every process, got {key} as a DTensor, as fully_shard makes it"
            )


def common_device(generator: nn.Module, discriminator: nn.Module) -> torch.device:
    """Return the device of both networks, or raise `DeviceError` if they are on several.

    Example:
        >>> common_device(nn.Linear(1, 1), nn.Linear(1, 1))
        device(type='cpu')
    """
    tensors = chain(generator.parameters(), discriminator.parameters())
    devices = sorted({str(tensor.device) for tensor in tensors})
    if len(devices) > 1:
        raise DeviceError(f"generator and discriminator must be on one device, got {' and '.join(devices)}")
    return torch.device(devices[0] if devices else "cpu")


def check_types(generator: nn.Module, discriminator: nn.Module) -> None:
    """Raise `BadArgumentsError` for networks without a common type of parameters, since samples have that of G's.

    Example:
        >>> check_types(nn.Linear(1, 1), nn.Linear(1, 1).double())
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: generator and discriminator must have parameters of one type, got float32 and \
float64
    """
    types = [
        {str(one.dtype).removeprefix("torch.") for one in network.parameters()}
        for network in (generator, discriminator)
    ]
    if all(types) and types[0].isdisjoint(types[1]):
        raise BadArgumentsError(
            "generator and discriminator must have parameters of one type, got "
            f"{' and '.join('/'.join(sorted(one)) for one in types)}"
        )


def check_unmixed(discriminator: nn.Module) -> None:
    """Raise `BadValueError` for a discriminator whose logit for one sample depends on the others of the batch.

    It knows BatchNorm, and layers that say so by an attribute `mixes_samples`.

    Example:
        >>> check_unmixed(nn.Linear(3, 1))
        >>> check_unmixed(nn.BatchNorm1d(3))
        Traceback (most recent call last):
        gankit.errors.BadValueError: concatenate_discriminator_passes would let real and fake samples see each \
other in a discriminator whose BatchNorm1d mixes the samples of a batch; leave it off
    """
    for layer in discriminator.modules():
        if isinstance(layer, MIXING) or (isinstance(layer, MixesSamples) and layer.mixes_samples):
            raise BadValueError(
                "concatenate_discriminator_passes would let real and fake samples see each other in a discriminator "
                f"whose {type(layer).__name__} mixes the samples of a batch; leave it off"
            )
