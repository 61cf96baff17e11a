"""Checks of networks and optimizers, before anything is trained.

Shapes are found by running the networks on fake tensors, which takes no memory, draws no random numbers and changes no
buffer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy

from gankit.answers import Judgements
from gankit.context import one_tensor
from gankit.errors import BadArgumentsError, BadValueError, DataError, DeviceError, GankitError, ShapeError, check_count
from gankit.protocols import MixesSamples, batch_multiple_of
from gankit.training.parallel.batch_norm import SynchronizedBatchNorm
from gankit.training.step.dry_run import dry_run
from gankit.training.step.gradients import held_parameters

CallbackT = TypeVar("CallbackT")

MIXING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, SynchronizedBatchNorm)
"""The layers that mix the samples of a batch."""
SINGLE_SAMPLE = (
    "a batch must have 2 samples or more for BatchNorm{}; a DataLoader leaves small ones out with drop_last=True"
)
_ABOUT_SHAPES = re.compile(r"shape|size|\bdim|\dD\b|channels|broadcast", re.IGNORECASE)


def check_shapes(
    generator: nn.Module,
    discriminator: nn.Module,
    latent_shape: Sequence[int],
    condition: Tensor | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    count: int | None = None,
) -> tuple[int, ...] | None:
    """Return the shape of the generator's samples, after a check that both networks fit together.

    Args:
        generator: G.
        discriminator: D.
        latent_shape: The shape of one latent.
        condition: The condition of a batch, for networks that take one.
        device: The device of the networks.
        dtype: The type of the latents.
        count: The number of samples in a batch. None before the first batch, which may carry a condition.

    Returns:
        The shape of one sample, or None if only a condition or a run on real tensors would show it.

    Raises:
        ShapeError: for networks that do not fit the latent or each other.
        BadArgumentsError: for a network that returns something else than one tensor, does not take the condition, or
            needs one that the batch does not have.
        DataError: for a BatchNorm that cannot compute its statistics from one sample.

    Example:
        >>> check_shapes(nn.Linear(10, 3), nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), (10,))
        (3,)
    """
    has_batch = count is not None
    if count is None:
        # a discriminator that joins samples, as packing does, has an attribute that says how many
        count = 2 * batch_multiple_of(discriminator)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        latents = torch.empty(count, *latent_shape, device=device, dtype=dtype)
    samples = _answer(mode, "generator", generator, latents, condition, has_batch)
    if samples is None:
        return None
    samples = one_tensor("generator", samples)
    if samples.ndim < 2 or samples.shape[0] != count:
        raise ShapeError(
            f"the generator must return samples of shape ({count}, *sample_shape) for {count} latents, "
            f"got {tuple(samples.shape)}"
        )
    answer = _answer(mode, "discriminator", discriminator, samples, condition, has_batch)
    if answer is None:
        return None
    with mode:
        Judgements(answer, (count,))
    return tuple(samples.shape[1:])


def _answer(
    mode: FakeTensorMode, role: str, network: nn.Module, inputs: Tensor, condition: Tensor | None, has_batch: bool
) -> object:
    """Return what a network answers to fake tensors, or None if they do not show it."""
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in network.modules()):
        return None  # what its forward pass stores could not be put back
    arguments = (inputs,) if condition is None else (inputs, mode.from_tensor(condition))
    label = f"the {role} {type(network).__name__}"
    try:
        return dry_run(mode, network, *arguments)
    except BadArgumentsError:
        if condition is None and not has_batch:
            return None  # a network of gankit's own says that it needs a condition
        raise
    except GankitError:
        raise
    except Exception as error:  # a network of one's own may raise any error
        reason = str(error).partition("\n")[0]
        if condition is not None and is_about_arguments(error):
            raise BadArgumentsError(
                f"the batches carry a condition of shape {tuple(condition.shape)}, which {label} does not take; give "
                "batches without one, or networks built with num_classes"
            ) from None
        if condition is None and has_batch and lacks_condition(error):
            raise BadArgumentsError(
                f"{label} needs a condition, which the batches do not carry ({reason}); give batches (real, condition)"
            ) from error
        if is_about_single_values(error):
            raise DataError(SINGLE_SAMPLE.format(f" in {label}, got {len(inputs)}")) from None
        if isinstance(error, (RuntimeError, ValueError, IndexError)) and _ABOUT_SHAPES.search(reason):
            raise ShapeError(f"{label} does not fit inputs of shape {tuple(inputs.shape)}: {reason}") from error
        return None  # it takes a condition, and none is known yet, or it reads values, which fakes do not have


def is_about_arguments(error: Exception) -> bool:
    """Return whether an error says that a function takes another number of arguments.

    Example:
        >>> is_about_arguments(TypeError("forward() takes 2 positional arguments but 3 were given"))
        True
    """
    return isinstance(error, TypeError) and "positional argument" in str(error)


def lacks_condition(error: Exception) -> bool:
    """Return whether an error is that of a network that was called without the condition that it needs.

    Example:
        >>> lacks_condition(AttributeError("'NoneType' object has no attribute 'long'"))
        True
    """
    return isinstance(error, (TypeError, AttributeError)) and ("NoneType" in str(error) or is_about_arguments(error))


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
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise BadArgumentsError(
            f"{name} must make a step from the gradients alone, as Adam does, got {type(optimizer).__name__}, which "
            "evaluates the loss itself"
        )
    own = {id(parameter) for parameter in network.parameters()}
    held = held_parameters(optimizer)
    strangers = sum(id(parameter) not in own for parameter in held)
    if strangers:
        raise BadArgumentsError(
            f"{name} must hold the {role}'s parameters, got {strangers} of {len(held)} that are not; make it "
            f"from this {role}'s .parameters()"
        )


def described(value: object) -> str:
    """Return what an argument is, in a few words: a class by its name, an object by that of its class.

    Example:
        >>> described(nn.Linear), described(nn.Linear(1, 1))
        ('the class Linear', 'Linear')
    """
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def is_about_single_values(error: Exception) -> bool:
    """Return whether an error is that of a BatchNorm that got one value per channel, also from TorchScript.

    Example:
        >>> is_about_single_values(ValueError("Expected more than 1 value per channel when training"))
        True
    """
    return "Expected more than 1 value per channel" in str(error)


@contextmanager
def single_samples_refused() -> Generator[None]:
    """Raise `DataError` for a single sample that a BatchNorm cannot use, where a run on fake tensors did not show it.

    Example:
        >>> with single_samples_refused():
        ...     nn.BatchNorm1d(3)(torch.zeros(1, 3))
        Traceback (most recent call last):
        gankit.errors.DataError: a batch must have 2 samples or more for BatchNorm; a DataLoader leaves small ones \
out with drop_last=True
    """
    try:
        yield
    except Exception as error:
        if not is_about_single_values(error):
            raise
        raise DataError(SINGLE_SAMPLE.format("")) from error


def check_latent(latent: object) -> None:
    """Raise `BadArgumentsError` unless `latent` can be called as a distribution of latents is.

    Example:
        >>> check_latent(torch.distributions.Normal(0.0, 1.0))
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: latent must be an object that draws by latent(count, generator=..., \
device=...), such as latents.Normal(100), got Normal
    """
    fits = callable(latent) and not isinstance(latent, type)
    if fits:
        try:
            inspect.signature(cast("Callable[..., object]", latent)).bind(1, generator=None, device=None)
        except TypeError:
            fits = False
        except ValueError:  # a callable of C has no signature
            pass
    if not fits:
        raise BadArgumentsError(
            f"latent must be an object that draws by latent(count, generator=..., device=...), such as "
            f"latents.Normal(100), got {described(latent)}"
        )


def checked_callbacks(callbacks: Iterable[CallbackT]) -> list[CallbackT]:
    """Return the callbacks as a list, or raise unless each can be called every few steps.

    Raises:
        BadArgumentsError: for something that is no callback, or no sequence of them.
        BadValueError: for a callback whose `every` is less than 1.

    Example:
        >>> checked_callbacks([print])
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: a callback must be callable and have an attribute every, the number of steps \
between two calls, got <built-in function print>
    """
    if not isinstance(callbacks, Iterable):
        raise BadArgumentsError(f"callbacks must be a list of callbacks, got {callbacks!r}")
    listed = list(callbacks)
    for one in listed:
        if not callable(one) or isinstance(one, type) or not hasattr(one, "every"):
            raise BadArgumentsError(
                "a callback must be callable and have an attribute every, the number of steps between two calls, "
                f"got {one!r}"
            )
        check_count(f"every of the callback {type(one).__name__}", cast(Any, one).every)
    return listed


def check_plain(name: str, network: nn.Module) -> None:
    """Raise `BadArgumentsError` for a network whose gradients another object collects, or that is not complete.

    `DistributedDataParallel` and `fully_shard` do so in hooks of `.backward()`, which `torch.autograd.grad` does not
    run, so that each rank would train a model of its own. A lazy layer has no weights before its first batch, but an
    average copies them and ranks exchange them before that.

    Example:
        >>> check_plain("generator", nn.Linear(1, 1))
        >>> check_plain("generator", nn.LazyLinear(1))
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: generator must have weights of known shapes, got weight of a lazy layer; run \
one batch through the network first
    """
    for key, tensor in chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(tensor):
            raise BadArgumentsError(
                f"{name} must have weights of known shapes, got {key} of a lazy layer; run one batch through the "
                "network first"
            )
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


def check_unshared(generator: nn.Module, discriminator: nn.Module) -> None:
    """Raise `BadValueError` for networks with a parameter in common, which D's update changes under G's graph.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> check_unshared(layer, nn.Sequential(layer, nn.Flatten(0)))
        Traceback (most recent call last):
        gankit.errors.BadValueError: share_generator_forward keeps G's graph during D's update, which would change the \
parameter 'weight' that both networks share; leave it off
    """
    own = {id(parameter) for parameter in discriminator.parameters()}
    for name, parameter in generator.named_parameters():
        if id(parameter) in own:
            raise BadValueError(
                "share_generator_forward keeps G's graph during D's update, which would change the parameter "
                f"{name!r} that both networks share; leave it off"
            )
