"""From a preset's fields to networks and a trainer: here names become objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.devices import resolve_device
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DeviceError,
    GankitError,
    ShapeError,
    check_count,
    check_seed,
)
from gankit.latents import LATENTS
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS, build_optimizer, with_fused_update
from gankit.presets.output_bias import mean_sample, set_output_bias
from gankit.protocols import Callback, HasShape, Latent
from gankit.registry import Registry, Spec, arguments_of
from gankit.regularizers import REGULARIZERS
from gankit.regularizers.building import build_regularizers
from gankit.seeds import default_generator_kept, replica_seeds, stream_seed
from gankit.training import AdversarialTrainer, Ranks, Stacked
from gankit.training.saving.environment import sources_of
from gankit.training.step.options import OPTION_NAMES

_OUTPUT_ACTIVATIONS = {(0.0, 1.0): "sigmoid", (-1.0, 1.0): "tanh", None: "identity"}


def build_trainer(
    fields: Mapping[str, Any],
    *,
    device: torch.device | str | None,
    seed: int,
    replicas: int | None,
    log_every_steps: int,
    check_every_steps: int | None,
    ranks: Ranks | None,
    callbacks: Sequence[Callback[AdversarialTrainer]],
) -> AdversarialTrainer:
    """Build the trainer of a preset.

    Args:
        fields: The preset's fields. Parts may also be factories or objects.
        device: The device to train on. None takes CUDA where there is one, and the CPU otherwise.
        seed: The seed of the initial weights and of the trainer.
        replicas: The number of models to train side by side, or None for a single one.
        log_every_steps: See `AdversarialTrainer`.
        check_every_steps: See `AdversarialTrainer`.
        ranks: See `AdversarialTrainer`.
        callbacks: See `AdversarialTrainer`.

    Example:
        >>> from gankit.presets import ring
        >>> options = dict(log_every_steps=1, check_every_steps=None, ranks=None, callbacks=())
        >>> trainer = build_trainer(ring.fields(), device="cpu", seed=0, replicas=None, **options)
        >>> trainer.generator_optimizer.defaults["lr"]
        0.001
    """
    place = resolve_device(device)
    if place.type == "meta":
        raise DeviceError("device must be one that computes, got 'meta', which has shapes but no values")
    check_seed(seed)
    latent = LATENTS.build(fields["latent"])
    if replicas is not None:
        check_count("replicas", replicas)
    pairs = [build_networks(fields, latent, own) for own in replica_seeds(seed, replicas)]
    if fields["output_bias_from_data"]:
        mean = mean_sample(Spec.of(fields["data"]), tuple(fields["sample_shape"]), fields["sample_range"])
        for built, _ in pairs:
            set_output_bias(built, mean)
    generator, discriminator = pairs[0]
    if replicas is not None:
        generator, discriminator = (Stacked(networks) for networks in zip(*pairs, strict=True))
    try:
        generator, discriminator = generator.to(place), discriminator.to(place)
    except NotImplementedError:
        raise DeviceError("the networks must be built on a device that computes, got weights on 'meta'") from None
    options: dict[str, Any] = {name: fields[name] for name in OPTION_NAMES}
    trainer = AdversarialTrainer(
        generator,
        discriminator,
        LOSSES.build(fields["loss"]),
        latent=latent,
        generator_optimizer=_optimizer(fields["generator_optimizer"], generator, place),
        discriminator_optimizer=_optimizer(fields["discriminator_optimizer"], discriminator, place),
        regularizers=build_regularizers(fields["regularizers"]),
        learning_rate_decay_steps=fields["steps"] if fields["learning_rate_decay"] else None,
        seed=seed,
        log_every_steps=log_every_steps,
        check_every_steps=check_every_steps,
        ranks=ranks,
        callbacks=callbacks,
        **options,
    )
    trainer.sample_range = fields["sample_range"]
    trainer.state.sources = sources_of(_factories(fields))
    return trainer


def _factories(fields: Mapping[str, Any]) -> list[object]:
    """Return what builds the parts of a preset that are given by name."""
    loss = fields["loss"]
    named: list[tuple[Registry[Any], Any]] = [
        (LATENTS, fields["latent"]),
        (GENERATORS, fields["generator"]),
        (DISCRIMINATORS, fields["discriminator"]),
        (OPTIMIZERS, fields["generator_optimizer"]),
        (OPTIMIZERS, fields["discriminator_optimizer"]),
        *((LOSSES, one) for one in (loss.stages.values() if isinstance(loss, LossSchedule) else [loss])),
        *((REGULARIZERS, one) for one in fields["regularizers"]),
    ]
    return [registry.get(Spec.of(ref).name) for registry, ref in named if isinstance(ref, (str, Spec))]


def build_networks(fields: Mapping[str, Any], latent: Latent, seed: int) -> tuple[nn.Module, nn.Module]:
    """Build a preset's generator and discriminator on the CPU, with the initial weights of the given seed.

    Args:
        fields: The preset's fields.
        latent: The latent from which the generator generates.
        seed: The seed of the initial weights.

    Raises:
        BadValueError: For a generator that is wholly frozen.

    Example:
        >>> from gankit.presets import ring
        >>> G, D = build_networks(ring.fields(), LATENTS.build(ring.latent), seed=0)
        >>> D(G(torch.zeros(4, 258))).shape
        torch.Size([4])
    """
    with default_generator_kept(stream_seed(seed, "initial weights")):
        generator = _network(GENERATORS, "generator", fields, latent)
        requires_grad = [parameter.requires_grad for parameter in generator.parameters()]
        if requires_grad and not any(requires_grad):
            raise BadValueError(
                "generator must have parameters that require a gradient, got a frozen network, as gankit.load returns "
                "it; call its requires_grad_(True) to train it, or freeze trainer.generator later"
            )
        return generator, _network(DISCRIMINATORS, "discriminator", fields, latent)


def _network(registry: Registry[nn.Module], role: str, fields: Mapping[str, Any], latent: Latent) -> nn.Module:
    ref = fields[role]
    if isinstance(ref, Mapping):
        ref = Spec.from_dict(cast("Mapping[str, Any]", ref))
    if isinstance(ref, nn.Module):
        return ref
    num_classes: int | None = fields["num_classes"]
    arguments: dict[str, Any] = {"sample_shape": tuple(fields["sample_shape"])}
    if role == "generator":
        shape = latent.shape if isinstance(latent, HasShape) else None
        if shape is None or len(shape) != 1:
            raise BadArgumentsError(f"a generator by name needs a latent whose shape is (latent_dim,), got {latent!r}")
        arguments["latent_dim"] = shape[0]
        if registry.accepts(ref, "output_activation"):
            arguments["output_activation"] = _output_activation(fields["sample_range"])
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    given = arguments_of(ref)  # which take precedence
    shape: object = given.get("sample_shape")
    if isinstance(shape, (tuple, list)):
        shape = tuple(cast("Sequence[object]", shape))
        if shape != arguments["sample_shape"]:
            raise ShapeError(f"the {role}'s sample_shape must be {arguments['sample_shape']}, the model's, got {shape}")
    own = given.get("num_classes")
    if isinstance(own, int) and own < (num_classes or 0):
        raise BadValueError(f"the {role}'s num_classes must be {num_classes}, the model's, got {own}")
    arguments = {name: value for name, value in arguments.items() if name not in given}
    try:
        return registry.build(ref, **arguments)
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, GankitError) or not isinstance(ref, Spec):
            raise
        # torch's message about a device that is missing here, or about a size that no memory holds
        reason = str(error).partition("\n")[0]
        raise BadValueError(f"the {role} {ref} cannot be built here: {reason}") from error


def _output_activation(sample_range: tuple[float, float] | None) -> str:
    if sample_range not in _OUTPUT_ACTIVATIONS:
        raise BadValueError(
            f"sample_range must be (0, 1), (-1, 1) or None for a generator by name, got {sample_range}; for another "
            "range, give the generator's output_activation in a Spec"
        )
    return _OUTPUT_ACTIVATIONS[sample_range]


def _optimizer(ref: Any, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    if isinstance(ref, torch.optim.Optimizer):
        return ref
    if isinstance(ref, (str, Spec)):
        return build_optimizer(with_fused_update(Spec.of(ref), device), network.parameters())
    return OPTIMIZERS.build(ref, network.parameters())
