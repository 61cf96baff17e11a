"""`Recipe`: everything that a run is made from, and what of it may change when the run is resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataNotFoundError,
    RecipeDiffersError,
    check_count,
    check_seed,
)
from gankit.files import parse_json, read_bytes
from gankit.presets import Preset
from gankit.runs.folder import refused_with
from gankit.spec import Spec

_FORMAT = 1
_MOST_RECIPE_BYTES = 1 << 16

MAY_CHANGE = {"checkpoint_every_steps", "check_every_steps"}
"""The fields of a recipe that decide nothing about the results, so that a run may be continued with other ones."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run is made from.

    A relative `root` of the preset's data is replaced by its absolute path, so that the run finds the same data when it
    is continued from another working folder.

    Args:
        preset: The model, its data and its number of steps.
        seed: The seed of the initial weights, the noise and the order of the data.
        device: The device to train on. None takes CUDA where there is one, and the CPU otherwise.
        replicas: The number of models to train side by side, on the seeds `seed`, `seed + 1`, and so on. None trains
            a single model.
        log_every_steps: The number of steps between two lines of metrics.
        sample_every_steps: The number of steps between two pictures of samples.
        evaluate_every_steps: The number of steps between two evaluations of the samples, for data that an evaluator
            scores. 0 evaluates at the end only.
        keep_best: The name of a metric such as `mnist_frechet_distance`: the weights of the best step by it are kept in
            `best`. None keeps those of the last step only.
        patience: The number of evaluations in a row without a better `keep_best` after which training stops. None never
            stops.
        checkpoint_every_steps: The number of steps between two checkpoints, from which a run can be resumed. 0 writes
            none.
        check_every_steps: The number of steps between two checks for NaN and infinity. None checks as often as
            metrics are logged.
        ranks: The number of processes that train the model together, each on batches of the preset's size.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> recipe = Recipe(preset=vanilla_mnist, seed=3)
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    preset: Preset
    seed: int = 0
    device: str | None = None
    replicas: int | None = None
    log_every_steps: int = 39
    sample_every_steps: int = 195
    evaluate_every_steps: int = 0
    keep_best: str | None = None
    patience: int | None = None
    checkpoint_every_steps: int = 100
    check_every_steps: int | None = None
    ranks: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, Preset):
            raise BadArgumentsError(f"a recipe's preset must be a Preset, got {self.preset!r}")
        object.__setattr__(self, "preset", _with_absolute_root(self.preset))
        check_seed(self.seed)
        if not isinstance(self.device, str | None):
            raise BadArgumentsError(f"a recipe's device must be a name such as 'cpu', or None, got {self.device!r}")
        if self.replicas is not None:
            check_count("replicas", self.replicas)
        check_count("log_every_steps", self.log_every_steps)
        check_count("sample_every_steps", self.sample_every_steps)
        check_count("evaluate_every_steps", self.evaluate_every_steps, zero=True)
        if not isinstance(self.keep_best, str | None):
            raise BadArgumentsError(
                f"a recipe's keep_best must be the name of a metric, or None, got {self.keep_best!r}"
            )
        if self.patience is not None:
            check_count("patience", self.patience)
        for name in ("keep_best", "patience"):
            if getattr(self, name) is not None and not self.evaluate_every_steps:
                raise BadValueError(f"evaluate_every_steps must be above 0 with {name}, got 0")
        check_count("checkpoint_every_steps", self.checkpoint_every_steps, zero=True)
        if self.check_every_steps is not None:
            check_count("check_every_steps", self.check_every_steps)
        check_count("ranks", self.ranks)
        if self.preset.on_non_finite == "rollback" and not self.checkpoint_every_steps:
            raise BadValueError("checkpoint_every_steps must be above 0 with on_non_finite='rollback', got 0")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe in plain containers that JSON can hold."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"format": _FORMAT} | fields | {"preset": self.preset.to_dict()}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` described.

        Raises:
            BadArgumentsError: For anything that is not the JSON form of a recipe.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(form, Mapping):
            raise BadArgumentsError(f"a recipe must be a mapping of names to values, got {form!r}")
        fields: dict[str, Any] = {name: value for name, value in form.items() if name != "format"}
        if form.get("format") != _FORMAT or fields.keys() - known or "preset" not in fields:
            raise BadArgumentsError(
                f"a recipe must have format {_FORMAT} and {', '.join(sorted(known))}, got {sorted(form)}"
            )
        with refused_with("a recipe must hold a preset"):
            fields["preset"] = Preset.from_dict(form["preset"])
        return cls(**fields)

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Return the values that differ in another recipe: by name, the value here and the value there.

        Example:
            >>> from gankit.presets import vanilla_mnist
            >>> recipe = Recipe(preset=vanilla_mnist)
            >>> recipe.differences(Recipe(preset=vanilla_mnist.replace(batch_size=32), seed=1))
            {'batch_size': (128, 32), 'seed': (0, 1)}
        """
        mine, theirs = ({**form.pop("preset"), **form} for form in (self.to_dict(), other.to_dict()))
        return {name: (value, theirs[name]) for name, value in mine.items() if value != theirs[name]}


def _with_absolute_root(preset: Preset) -> Preset:
    data = Spec.of(preset.data)
    root = data.arguments.get("root")
    if not isinstance(root, str) or not root or root.startswith("~") or Path(root).is_absolute():
        return preset
    return preset.replace(data=Spec(data.name, **data.arguments | {"root": str(Path(root).absolute())}))


def check_same_recipe(differences: Mapping[str, tuple[Any, Any]], where: str, *, decays: bool = False) -> None:
    """Refuse to resume a run with another recipe. More steps do not count as a difference.

    Args:
        differences: The differences that `Recipe.differences` returned.
        where: The folder of the run, for the error.
        decays: Whether the learning rates depend on the number of steps, so that more steps count as a difference.

    Raises:
        RecipeDiffersError: If there is a difference. The error names all of them.

    Example:
        >>> check_same_recipe({"steps": (100, 200)}, "run")
        >>> check_same_recipe({"seed": (0, 1)}, "run")
        Traceback (most recent call last):
        gankit.errors.RecipeDiffersError: a run that is continued must have the recipe of 'run', got seed 1 instead of \
0; leave it out, or add --override to change the recipe
    """
    refused = {
        name: (own, given)
        for name, (own, given) in differences.items()
        if name not in MAY_CHANGE and (name != "steps" or decays or given < own)
    }
    if refused:
        changes = ", ".join(
            f"{name} {_as_text(given)} instead of {_as_text(own)}"
            + (", on which the learning rates depend with learning_rate_decay" if name == "steps" and decays else "")
            for name, (own, given) in refused.items()
        )
        raise RecipeDiffersError(
            f"a run that is continued must have the recipe of {where!r}, got {changes}; leave it out, or add "
            "--override to change the recipe"
        )


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        form = cast("dict[str, Any]", value)
        return str(form["name"]) if form.keys() == {"name"} else json.dumps(form)
    return json.dumps(value) if isinstance(value, list) else str(value)


def read_recipe(folder: str | Path) -> Recipe:
    """Read the recipe in the folder of a run. No code from the folder is executed.

    Raises:
        DataNotFoundError: For a folder without a recipe.
        BadArgumentsError: For a recipe that cannot be read.

    Example:
        >>> read_recipe("nowhere")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: a run's folder must hold recipe.json, got 'nowhere' without one
    """
    path = Path(folder) / "recipe.json"
    try:
        content = read_bytes(path, _MOST_RECIPE_BYTES)
    except ValueError as error:
        raise BadArgumentsError(f"a run's folder must hold a recipe.json that can be read: {error}") from None
    except OSError:
        raise DataNotFoundError(f"a run's folder must hold recipe.json, got {str(folder)!r} without one") from None
    try:
        form = parse_json(content)
    except ValueError as error:
        raise BadArgumentsError(f"{path} must be JSON: {error}") from None
    if not isinstance(form, dict):
        raise BadArgumentsError(f"{path} must hold a recipe, got {type(form).__name__}")
    form = cast("dict[str, Any]", form)
    return Recipe.from_dict(form)
