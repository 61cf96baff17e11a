"""`Preset`: a model as names and numbers, and how those become a trainer and its batches."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from typing_extensions import Unpack

from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.architectures.common import checked_shape
from gankit.data import DATASETS, Sampler, TensorBatches, TensorData, make_batches
from gankit.devices import resolve_device
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    DeviceError,
    GankitError,
    check_count,
    check_seed,
    did_you_mean,
    is_too_large,
)
from gankit.latents import LATENTS
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS, build_optimizer, with_fused_update
from gankit.protocols import (
    AdversarialLoss,
    Batch,
    BuildsLosses,
    Callback,
    Constraint,
    Latent,
    Regularizer,
    ScheduledLoss,
)
from gankit.registry import Registry, Spec, fits
from gankit.regularizers import REGULARIZERS
from gankit.seeds import replica_seeds, stream_seed
from gankit.training import AdversarialTrainer, Execution, OnNonFinite, Precision, Ranks, Stacked
from gankit.training.trainer import part_name

Name: TypeAlias = str | Spec

PRESETS = Registry[AdversarialTrainer]("preset", group="gankit.presets")
"""Presets, by name; `PRESETS.get(name)` is the `Preset`, `PRESETS.build(name, ...)` its trainer."""

_SPECS = ("data", "latent", "generator", "discriminator", "generator_optimizer", "discriminator_optimizer")
_FOR_BATCHES = ("data", "batch_size", "steps")
_KINDS = {
    "name": str,
    "description": str,
    "learning_rate_decay": bool,
    "share_generator_forward": bool,
    "concatenate_discriminator_passes": bool,
    "synchronize_batch_norm": bool,
}
_OUTPUT_ACTIVATIONS = {(0.0, 1.0): "sigmoid", (-1.0, 1.0): "tanh", None: "identity"}


class Overrides(TypedDict, total=False):
    """What calling a preset can replace: parts by name, `Spec`, factory or object, and numbers."""

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
    discriminator_steps: int
    discriminator_warmup_steps: int
    averaging_decay: float | None
    max_gradient_norm: float | None
    learning_rate_decay: bool
    precision: Precision
    execution: Execution
    share_generator_forward: bool
    concatenate_discriminator_passes: bool
    on_non_finite: OnNonFinite
    synchronize_batch_norm: bool


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model as names and numbers; calling it builds the trainer.

    Parts are names or `Spec`s. `replace` gives another preset, `to_dict` and `from_dict` go through JSON.

    Args:
        name: the preset's name.
        data: the data set's name.
        sample_shape: the shape of one sample.
        sample_range: the lowest and highest value of a sample, to which bytes are scaled and from which
            named generators choose their output activation; None for any.
        latent: the latent's name.
        generator: the generator's name.
        discriminator: the discriminator's name.
        loss: the loss's name, or a `LossSchedule` of names.
        generator_optimizer: the optimizer's name; its update is fused where torch can do so.
        discriminator_optimizer: likewise.
        batch_size: samples a batch.
        steps: how many steps a run makes by default.
        description: one sentence, with the source.
        regularizers: names of penalties and constraints.
        num_classes: makes the model conditional: batches carry labels, named networks take them.
        discriminator_steps: see `AdversarialTrainer`, as for all below.
        discriminator_warmup_steps: likewise.
        averaging_decay: likewise.
        max_gradient_norm: likewise.
        learning_rate_decay: let both learning rates go linearly to zero over `steps`.
        precision: likewise.
        execution: likewise.
        share_generator_forward: likewise.
        concatenate_discriminator_passes: likewise.
        on_non_finite: likewise.
        synchronize_batch_norm: likewise.

    Raises:
        BadValueError: for a number that is not positive.
        BadArgumentsError: for a part that is an object: objects go into the call.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> smaller = vanilla_mnist.replace(generator=Spec("mlp", hidden_dim=16), batch_size=32)
        >>> Preset.from_dict(smaller.to_dict()) == smaller
        True
        >>> trainer = smaller(loss="minimax", seed=0, device="cpu")
        >>> trainer.fit(smaller.batches(device="cpu"), steps=2).steps_done
        2
        >>> trainer.sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    name: str
    data: Name
    sample_shape: tuple[int, ...]
    sample_range: tuple[float, float] | None
    latent: Name
    generator: Name
    discriminator: Name
    loss: Name | LossSchedule
    generator_optimizer: Name
    discriminator_optimizer: Name
    batch_size: int
    steps: int
    description: str = ""
    regularizers: tuple[Name, ...] = ()
    num_classes: int | None = None
    discriminator_steps: int = 1
    discriminator_warmup_steps: int = 0
    averaging_decay: float | None = None
    max_gradient_norm: float | None = None
    learning_rate_decay: bool = False
    precision: Precision = "float32"
    execution: Execution = "auto"
    share_generator_forward: bool = False
    concatenate_discriminator_passes: bool = False
    on_non_finite: OnNonFinite = "raise"
    synchronize_batch_norm: bool = False

    def __post_init__(self) -> None:
        def put(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        for field in _SPECS:
            put(field, _named_spec(field, getattr(self, field)))
        if not isinstance(self.loss, LossSchedule):
            put("loss", _named_spec("loss", self.loss))
        if not isinstance(self.regularizers, (list, tuple)):
            raise BadArgumentsError(f"a preset's regularizers must be a sequence of names, got {self.regularizers!r}")
        put("regularizers", tuple(_named_spec("regularizers", one) for one in self.regularizers))
        put("sample_shape", checked_shape(self.sample_shape))
        put("sample_range", _checked_range(self.sample_range))
        for field, kind in _KINDS.items():
            if not isinstance(getattr(self, field), kind):
                wanted = "text" if kind is str else "True or False"
                raise BadArgumentsError(f"a preset's {field} must be {wanted}, got {getattr(self, field)!r}")
        if self.num_classes is not None:
            check_count("num_classes", self.num_classes)
        check_count("batch_size", self.batch_size)
        check_count("steps", self.steps)
        if self.description:
            put("__doc__", self.description)

    def replace(self, **changes: Any) -> Preset:
        """Return a preset with some fields changed.

        Raises:
            BadArgumentsError: for a field that does not exist.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for field in changes:
            if field not in known:
                raise BadArgumentsError(
                    f"preset {self.name!r} has no field {field!r}.{did_you_mean(field, known)} "
                    f"It has {', '.join(known)}"
                )
        return dataclasses.replace(self, **changes)

    # --- to a trainer ------------------------------------------------------------------------------------

    def __call__(
        self,
        *,
        device: torch.device | str | None = None,
        seed: int = 0,
        replicas: int | None = None,
        log_every_steps: int = 100,
        check_every_steps: int | None = None,
        ranks: Ranks | None = None,
        callbacks: Sequence[Callback[AdversarialTrainer]] = (),
        **overrides: Unpack[Overrides],
    ) -> AdversarialTrainer:
        """Build the trainer.

        Args:
            device: where it trains; by default CUDA where there is one, else the CPU.
            seed: of the initial weights, which are the same on every device, and of the trainer.
            replicas: train so many independent models side by side, `Stacked`; replica i is the model that the
                seed `seed + i` gives alone.
            log_every_steps: see `AdversarialTrainer`.
            check_every_steps: see `AdversarialTrainer`.
            ranks: see `AdversarialTrainer`.
            callbacks: see `AdversarialTrainer`.
            **overrides: fields of the preset to replace; parts may be objects here.

        Raises:
            BadArgumentsError: for an unknown override, or arguments that do not fit a part.
            UnknownNameError: for a name no part has.
            DeviceError: for a device that does not exist here.
        """
        self._check_overrides(overrides)
        chosen: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | overrides
        place = resolve_device(device)
        if place.type == "meta":
            raise DeviceError("device must be one that computes, got 'meta', which has shapes and no values")
        check_seed(seed)
        latent = LATENTS.build(chosen["latent"])
        if replicas is not None:
            check_count("replicas", replicas)
        pairs = [build_networks(chosen, latent, own) for own in replica_seeds(seed, replicas)]
        generator, discriminator = pairs[0]
        if replicas is not None:
            generator, discriminator = (Stacked(networks) for networks in zip(*pairs, strict=True))
        try:
            generator, discriminator = generator.to(place), discriminator.to(place)
        except NotImplementedError:
            raise DeviceError("the networks must be built on a device that computes, got weights on 'meta'") from None
        regularizers: dict[str, Regularizer | Constraint] = {}
        for ref in chosen["regularizers"]:
            part = REGULARIZERS.build(ref)
            name = Spec.of(ref).name if isinstance(ref, (str, Spec)) else part_name(part)
            if name in regularizers:
                raise BadValueError(f"regularizers must have different names, got {name!r} twice")
            regularizers[name] = part
        return AdversarialTrainer(
            generator,
            discriminator,
            LOSSES.build(chosen["loss"]),
            latent=latent,
            generator_optimizer=_optimizer(chosen["generator_optimizer"], generator, place),
            discriminator_optimizer=_optimizer(chosen["discriminator_optimizer"], discriminator, place),
            regularizers=regularizers,
            discriminator_steps=chosen["discriminator_steps"],
            discriminator_warmup_steps=chosen["discriminator_warmup_steps"],
            averaging_decay=chosen["averaging_decay"],
            max_gradient_norm=chosen["max_gradient_norm"],
            learning_rate_decay_steps=self.steps if chosen["learning_rate_decay"] else None,
            precision=chosen["precision"],
            execution=chosen["execution"],
            share_generator_forward=chosen["share_generator_forward"],
            concatenate_discriminator_passes=chosen["concatenate_discriminator_passes"],
            on_non_finite=chosen["on_non_finite"],
            synchronize_batch_norm=chosen["synchronize_batch_norm"],
            seed=seed,
            log_every_steps=log_every_steps,
            check_every_steps=check_every_steps,
            ranks=ranks,
            callbacks=callbacks,
        )

    def batches(
        self,
        data: Name | TensorData | Tensor | Sampler | Iterable[Any] | Dataset[Any] | None = None,
        *,
        device: torch.device | str | None = None,
        root: str | Path | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        replicas: int | None = None,
        shard: tuple[int, int] | None = None,
    ) -> Iterable[Batch]:
        """Return batches of real samples for this model.

        Args:
            data: a name in `DATASETS`, a tensor, a `Sampler`, a `Dataset`, a `DataLoader`, or an iterable of
                batches; by default the preset's.
            device: where batches lie; by default CUDA where there is one, else the CPU.
            root: the folder of a named data set that has one.
            batch_size: instead of the preset's; of each rank, where several train together.
            seed: of the order.
            replicas: for so many models side by side, each with an order of its own, that of the seed `seed + i`.
            shard: `(rank, ranks)`: which part of the data is given out; by default this process's, where
                `torch.distributed` has been initialised.

        Raises:
            DataError: for data that is empty, too small, out of the preset's range or not finite.
            ShapeError: for samples of another shape than the preset's.
        """
        source = self.data if data is None else data
        if isinstance(source, (str, Spec)):
            options = {} if root is None else {"root": str(root)}
            source = DATASETS.build(source, **options)
        elif root is not None:
            raise BadArgumentsError(f"root is for a data set by name, got it beside {type(source).__name__}")
        batches = make_batches(
            source,
            batch_size=self.batch_size if batch_size is None else batch_size,
            device=resolve_device(device),
            seed=seed,
            sample_range=self.sample_range,
            sample_shape=self.sample_shape,
            with_labels=self.num_classes is not None,
            replicas=replicas,
            shard=(Ranks.present().rank, Ranks.present().size) if shard is None else shard,
        )
        labels = batches.labels if isinstance(batches, TensorBatches) else None
        if labels is not None and self.num_classes is not None:
            _check_labels(labels, self.num_classes)
        return batches

    def _check_overrides(self, overrides: Mapping[str, Any]) -> None:
        known = [
            *Overrides.__annotations__,
            "device",
            "seed",
            "replicas",
            "log_every_steps",
            "check_every_steps",
            "ranks",
            "callbacks",
        ]
        for name in overrides:
            if name in _FOR_BATCHES:
                raise BadArgumentsError(
                    f"preset {self.name!r} builds a trainer, which has no {name!r}; give it to .batches(), .fit() or "
                    ".replace()"
                )
            if name not in known:
                raise BadArgumentsError(
                    f"preset {self.name!r} got an unexpected argument {name!r}.{did_you_mean(name, known)} "
                    f"It takes {', '.join(known)}"
                )

    # --- to JSON -----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the preset in plain containers that JSON knows."""
        return {field.name: _to_json(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Preset:
        """Return the preset that `to_dict` described.

        Raises:
            BadArgumentsError: for missing or unknown fields, or values of another type.
        """
        if not isinstance(form, Mapping):
            raise BadArgumentsError(f"a preset's JSON form must be a mapping of names to values, got {form!r}")
        fields = dataclasses.fields(cls)
        unknown = sorted(form.keys() - {field.name for field in fields})
        needed = {field.name for field in fields if field.default is dataclasses.MISSING}
        if unknown or needed - form.keys():
            raise BadArgumentsError(
                "a preset's JSON form has fields it must not have or lacks some: "
                f"unknown {unknown}, missing {sorted(needed - form.keys())}"
            )
        values = {name: _from_json(name, value) for name, value in form.items()}
        hints = typing.get_type_hints(cls)
        for field in fields:
            if field.name in values and not fits(values[field.name], hints[field.name]):
                raise BadArgumentsError(f"a preset's {field.name} must be {field.type}, got {values[field.name]!r}")
        return cls(**values)


def _checked_range(sample_range: Any) -> tuple[float, float] | None:
    if sample_range is None:
        return None
    pair: Sequence[Any] = cast("Sequence[Any]", sample_range) if isinstance(sample_range, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in pair):
        raise BadArgumentsError(f"sample_range must be two numbers, lowest and highest, or None, got {sample_range!r}")
    low, high = pair
    if not -math.inf < low < high < math.inf or any(map(is_too_large, pair)):
        raise BadValueError(f"sample_range must be two finite numbers, the lowest first, got {sample_range!r}")
    return float(low), float(high)


def _named_spec(field: str, value: object) -> Spec:
    if isinstance(value, (str, Spec)):
        return Spec.of(value)
    raise BadArgumentsError(
        f"a preset's {field} must be a name or a Spec, got {value!r}; objects go into the call: preset({field}=...)"
    )


def build_networks(chosen: Mapping[str, Any], latent: Latent, seed: int) -> tuple[nn.Module, nn.Module]:
    """Build a preset's generator and discriminator on the CPU, with the weights that the seed gives.

    Args:
        chosen: the preset's fields.
        latent: what the generator answers.
        seed: of the weights.

    Example:
        >>> from gankit.presets import ring
        >>> fields = {field.name: getattr(ring, field.name) for field in dataclasses.fields(ring)}
        >>> G, D = build_networks(fields, LATENTS.build(ring.latent), seed=0)
        >>> D(G(torch.zeros(4, 258))).shape
        torch.Size([4])
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(stream_seed(seed, "initial weights"))
        generator = _network(GENERATORS, "generator", chosen, latent)
        return generator, _network(DISCRIMINATORS, "discriminator", chosen, latent)


def _network(registry: Registry[nn.Module], role: str, chosen: Mapping[str, Any], latent: Latent) -> nn.Module:
    ref = chosen[role]
    if isinstance(ref, nn.Module):
        return ref
    arguments: dict[str, Any] = {"sample_shape": tuple(chosen["sample_shape"])}
    if role == "generator":
        shape: Sequence[int] | None = getattr(latent, "shape", None)
        if shape is None or len(shape) != 1:
            raise BadArgumentsError(f"a generator by name needs a latent whose shape is (latent_dim,), got {latent!r}")
        arguments["latent_dim"] = shape[0]
        if registry.accepts(ref, "output_activation"):
            arguments["output_activation"] = _output_activation(chosen["sample_range"])
    if chosen["num_classes"] is not None:
        arguments["num_classes"] = chosen["num_classes"]
    if isinstance(ref, Spec):  # what the spec says for itself stays
        own = ref.arguments.get("num_classes")
        if isinstance(own, int) and own < (chosen["num_classes"] or 0):
            raise BadValueError(f"the {role}'s num_classes must be {chosen['num_classes']}, the model's, got {own}")
        arguments = {name: value for name, value in arguments.items() if name not in ref.arguments}
    try:
        return registry.build(ref, **arguments)
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, GankitError) or not isinstance(ref, Spec):
            raise
        # what torch says of a device it has not, or of a size that no memory holds
        reason = str(error).partition("\n")[0]
        raise BadValueError(f"the {role} {ref} cannot be built here: {reason}") from error


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.is_floating_point():
        raise DataError(f"labels must be integers, got {labels.dtype}")
    lowest, highest = (int(one) for one in torch.aminmax(labels))
    if lowest < 0 or highest >= num_classes:
        raise DataError(
            f"labels must be from 0 to {num_classes - 1} for num_classes={num_classes}, got {lowest} to {highest}"
        )


def _output_activation(sample_range: tuple[float, float] | None) -> str:
    if sample_range not in _OUTPUT_ACTIVATIONS:
        raise BadValueError(
            f"sample_range must be (0, 1), (-1, 1) or None for a generator by name, got {sample_range}; give the "
            "generator's output_activation in a Spec"
        )
    return _OUTPUT_ACTIVATIONS[sample_range]


def _optimizer(ref: Any, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    if isinstance(ref, torch.optim.Optimizer):
        return ref
    if isinstance(ref, (str, Spec)):
        ref = with_fused_update(Spec.of(ref), device)
        return build_optimizer(ref, network.parameters())
    return OPTIMIZERS.build(ref, network.parameters())


def _to_json(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, LossSchedule):
        return {"schedule": {str(step): _to_json(_named_spec("loss", r)) for step, r in value.stages.items()}}
    return [_to_json(one) for one in cast("tuple[Any]", value)] if isinstance(value, tuple) else value


def _from_json(field: str, value: Any) -> Any:
    if field == "loss" and isinstance(value, Mapping) and "schedule" in value:
        return _schedule_from_json(cast("Mapping[str, Any]", value)["schedule"])
    if isinstance(value, Mapping):
        return Spec.from_dict(cast("Mapping[str, Any]", value))
    return tuple(_from_json(field, one) for one in cast("list[Any]", value)) if isinstance(value, list) else value


def _schedule_from_json(stages: Any) -> LossSchedule:
    if not isinstance(stages, Mapping) or not all(
        isinstance(step, str) and step.isdecimal() for step in cast("Mapping[Any, Any]", stages)
    ):
        raise BadArgumentsError(f"a loss's schedule must have a loss for each first step, got {stages!r}")
    forms = cast("Mapping[str, Any]", stages)
    return LossSchedule({int(step): Spec.from_dict(form) for step, form in forms.items()})
