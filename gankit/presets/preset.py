"""`Preset`: a model as names and numbers."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Unpack, override

from gankit.architectures.base import checked_shape
from gankit.data import DATASETS, PictureFiles, Sampler, TensorData, make_batches
from gankit.data.checked import check_labels
from gankit.devices import resolve_device
from gankit.errors import BadArgumentsError, BadValueError, check_count, did_you_mean, is_too_large
from gankit.losses import LossSchedule
from gankit.presets.building import build_trainer
from gankit.presets.changes import Name, Overrides, PresetChanges
from gankit.presets.picture_data import in_shape, warn_of_absent_classes
from gankit.protocols import Batch, Callback
from gankit.registry import Registry, Spec, fits
from gankit.spec import from_json, to_json
from gankit.training import AdversarialTrainer, Options, Ranks
from gankit.training.step.options import OPTION_NAMES

PRESETS = Registry[AdversarialTrainer]("preset", group="gankit.presets")
"""Presets, by name; `PRESETS.get(name)` is the `Preset`, `PRESETS.build(name, ...)` its trainer."""

_SPECS = ("data", "latent", "generator", "discriminator", "generator_optimizer", "discriminator_optimizer")
_FIXED_IN_A_TRAINER = ("name", "description", "data", "batch_size", "steps")
_ARGUMENTS_OF_A_CALL = ("device", "seed", "replicas", "log_every_steps", "check_every_steps", "ranks", "callbacks")


@dataclass(frozen=True, kw_only=True)
class Preset(Options):
    """A model as names and numbers; calling it builds the trainer.

    A preset has the fields of `Options` and those below. Parts are names or `Spec`s. `replace` returns a changed
    preset; `to_dict` and `from_dict` convert it to JSON and back.

    Args:
        name: The preset's name.
        description: One sentence that describes the preset and cites its source.
        data: The name of the data set.
        sample_shape: The shape of one sample: channels, height and width for pictures.
        sample_range: The lowest and the highest value of a sample, or None for any. Bytes are scaled to this range,
            and generators given by name choose their output activation by it.
        num_classes: The number of classes of a conditional model: batches carry labels, and networks given by name take
            them as the condition. None trains an unconditional model.
        latent: The name of the latent.
        generator: The name of the generator.
        discriminator: The name of the discriminator.
        loss: The name of the loss, or a `LossSchedule` of names.
        regularizers: The names of penalties and constraints.
        generator_optimizer: The name of G's optimizer. Its update is fused where torch supports that.
        discriminator_optimizer: The name of D's optimizer. Its update is fused where torch supports that.
        batch_size: The number of samples in a batch, for each process where several train together.
        steps: The number of steps of a run.
        learning_rate_decay: Let both learning rates decrease linearly to zero over the steps of the run.
        output_bias_from_data: Initialise the bias of the generator's last layer so that its first samples have the mean
            of the preset's data set, which must be in memory (Goodfellow et al. 2014).

    Raises:
        BadValueError: For a number out of range.
        BadArgumentsError: For a value of the wrong type, and for a part that is an object: objects are arguments of
            the call.

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
    description: str = ""
    data: Name
    sample_shape: tuple[int, ...]
    sample_range: tuple[float, float] | None
    num_classes: int | None = None
    latent: Name
    generator: Name
    discriminator: Name
    loss: Name | LossSchedule
    regularizers: tuple[Name, ...] = ()
    generator_optimizer: Name
    discriminator_optimizer: Name
    batch_size: int
    steps: int
    learning_rate_decay: bool = False
    output_bias_from_data: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()

        def put(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        for field in _SPECS:
            put(field, _named_spec(field, getattr(self, field)))
        if isinstance(self.loss, LossSchedule):
            for ref in self.loss.stages.values():
                _named_spec("loss", ref)
        else:
            put("loss", _named_spec("loss", self.loss))
        if not isinstance(self.regularizers, (list, tuple)):
            raise BadArgumentsError(f"a preset's regularizers must be a sequence of names, got {self.regularizers!r}")
        put("regularizers", tuple(_named_spec("regularizers", one) for one in self.regularizers))
        put("sample_shape", checked_shape(self.sample_shape))
        put("sample_range", _checked_range(self.sample_range))
        for field in ("name", "description"):
            if not isinstance(getattr(self, field), str):
                raise BadArgumentsError(f"a preset's {field} must be text, got {getattr(self, field)!r}")
        for field in ("learning_rate_decay", "output_bias_from_data"):
            if not isinstance(getattr(self, field), bool):
                raise BadArgumentsError(f"a preset's {field} must be True or False, got {getattr(self, field)!r}")
        if self.num_classes is not None:
            check_count("num_classes", self.num_classes)
        check_count("batch_size", self.batch_size)
        check_count("steps", self.steps)
        if self.description:
            put("__doc__", self.description)

    def fields(self) -> dict[str, Any]:
        """Return the values of all fields by name, those of `Options` last.

        Example:
            >>> from gankit.presets import ring
            >>> list(ring.fields())[:3], ring.fields()["averaging_decay"]
            (['name', 'description', 'data'], 0.995)
        """
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in sorted(names, key=OPTION_NAMES.__contains__)}

    def replace(self, **changes: Unpack[PresetChanges]) -> Self:
        """Return a preset with some fields changed.

        Args:
            **changes: The new values, by field.

        Raises:
            BadArgumentsError: For a field that does not exist.
        """
        known = list(self.fields())
        for field in changes:
            if field not in known:
                raise BadArgumentsError(
                    f"preset {self.name!r} has no field {field!r}.{did_you_mean(field, known)} "
                    f"It has {', '.join(known)}"
                )
        return dataclasses.replace(self, **cast("dict[str, Any]", changes))

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
            device: The device to train on. None takes CUDA where there is one, and the CPU otherwise.
            seed: The seed of the trainer and of the initial weights, which are the same on every device.
            replicas: The number of independent models to train side by side, `Stacked`; None trains a single one.
                Replica i is the model that the seed `seed + i` gives alone.
            log_every_steps: See `AdversarialTrainer`.
            check_every_steps: See `AdversarialTrainer`.
            ranks: See `AdversarialTrainer`.
            callbacks: See `AdversarialTrainer`.
            **overrides: Values that replace fields of the preset. Parts may be objects here.

        Raises:
            BadArgumentsError: For an unknown override, or arguments that do not fit a part.
            UnknownNameError: For a name under which no part is registered.
            DeviceError: For a device that does not exist here.
        """
        self._check_overrides(overrides)
        return build_trainer(
            self.fields() | cast("dict[str, Any]", overrides),
            device=device,
            seed=seed,
            replicas=replicas,
            log_every_steps=log_every_steps,
            check_every_steps=check_every_steps,
            ranks=ranks,
            callbacks=callbacks,
        )

    def _check_overrides(self, overrides: Mapping[str, Any]) -> None:
        known = [*(name for name in self.fields() if name not in _FIXED_IN_A_TRAINER), *_ARGUMENTS_OF_A_CALL]
        for name in overrides:
            if name in ("data", "batch_size", "steps"):
                raise BadArgumentsError(
                    f"preset {self.name!r} builds a trainer, which has no {name!r}; give it to .batches(), .fit() or "
                    ".replace()"
                )
            if name not in known:
                raise BadArgumentsError(
                    f"preset {self.name!r} got an unexpected argument {name!r}.{did_you_mean(name, known)} "
                    f"It takes {', '.join(known)}"
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
        keys: str | Sequence[str] | None = None,
    ) -> Iterable[Batch]:
        """Return batches of real samples for this model.

        Args:
            data: A name in `DATASETS`, a tensor, a `Sampler`, a `Dataset`, a `DataLoader`, or an iterable of
                batches. None takes the preset's data set.
            device: The device of the batches. None takes CUDA where there is one, and the CPU otherwise.
            root: The folder of a data set given by name, where it has one.
            batch_size: The number of samples in a batch, for each rank. None takes the preset's.
            seed: The seed of the order.
            replicas: The number of models to serve side by side. Replica i gets the order of the seed `seed + i`.
            shard: `(rank, ranks)`: the part of the data to serve. None takes the part of this process where
                `torch.distributed` is initialised, and all of the data otherwise.
            keys: The names of the samples, or of the samples and the labels, in batches that are dictionaries, such as
                `("image", "label")`.

        Raises:
            DataError: For data that is empty, too small, outside the preset's range, or not finite, and for labels that
                are none of the classes.
            ShapeError: For samples whose shape is not the preset's.
        """
        source = self.data if data is None else data
        is_shared = True
        if isinstance(source, (str, Spec)):
            # nothing else holds the data that gankit's own data sets return
            is_shared = not DATASETS.get(Spec.of(source).name).__module__.startswith("gankit.")
            options = {} if root is None else {"root": str(root)}
            named = in_shape(Spec.of(source), self.sample_shape, with_labels=self.num_classes is not None)
            source = DATASETS.build(named, **options)
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
            copy=is_shared,
            num_classes=self.num_classes,
            keys=keys,
        )
        if isinstance(source, PictureFiles) and source.labels is not None:
            check_labels(source.labels, self.num_classes)
        if isinstance(source, (TensorData, PictureFiles)):
            warn_of_absent_classes(source.classes, self.num_classes)
        return batches

    def labels(self, count: int) -> Tensor | None:
        """Return labels for `count` samples, class after class, or None for a model without classes.

        Example:
            >>> from gankit.presets import vanilla_mnist
            >>> vanilla_mnist.replace(num_classes=3).labels(5)
            tensor([0, 1, 2, 0, 1])
        """
        return None if self.num_classes is None else torch.arange(count) % self.num_classes

    def to_dict(self) -> dict[str, Any]:
        """Return the preset in plain containers that JSON can hold."""
        return {
            name: _schedule_to_json(value) if isinstance(value, LossSchedule) else to_json(value, f"a preset's {name}")
            for name, value in self.fields().items()
        }

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Self:
        """Return the preset that `to_dict` described.

        Raises:
            BadArgumentsError: For missing or unknown fields, or values of the wrong type.
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
        values = {name: _loss_from_json(one) if name == "loss" else from_json(one) for name, one in form.items()}
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


def _schedule_to_json(schedule: LossSchedule) -> dict[str, Any]:
    return {"schedule": {str(step): _named_spec("loss", ref).to_dict() for step, ref in schedule.stages.items()}}


def _loss_from_json(form: Any) -> Any:
    if not isinstance(form, Mapping) or "schedule" not in form:
        return from_json(form)
    stages = cast("Mapping[str, Any]", form)["schedule"]
    if not isinstance(stages, Mapping) or not all(
        isinstance(step, str) and step.isdecimal() for step in cast("Mapping[Any, Any]", stages)
    ):
        raise BadArgumentsError(f"a loss's schedule must have a loss for each first step, got {stages!r}")
    specs = cast("Mapping[str, Any]", stages)
    return LossSchedule({int(step): Spec.from_dict(spec) for step, spec in specs.items()})
