"""How words of the command line become values, and fields of dataclasses become flags."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import time
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gankit.errors import BadArgumentsError, GankitError
from gankit.presets import PRESETS, Preset
from gankit.spec import Spec

Arguments = argparse.ArgumentParser | argparse._ArgumentGroup  # pyright: ignore[reportPrivateUsage]
"""Where flags are added."""


def spec(text: str) -> Spec:
    """Read a part by name and arguments, such as `mlp:hidden_dim=256`.

    Example:
        >>> spec("mlp:hidden_dim=256")
        Spec('mlp', hidden_dim=256)
    """
    try:
        return Spec.parse(text)
    except GankitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def named_preset(name: str) -> Preset:
    """Return the preset of that name, which must be a `Preset` and not another factory of trainers.

    Example:
        >>> named_preset("ring").batch_size
        256
    """
    preset = PRESETS.get(name)
    if not isinstance(preset, Preset):
        raise BadArgumentsError(f"the command line trains a Preset, got {name!r}, which is {preset!r}")
    return preset


def output_folder(options: argparse.Namespace, name: str) -> Path:
    """Return the folder that `--out` names, or a new one in `runs`, called by the name and the time.

    Example:
        >>> output_folder(argparse.Namespace(out=None), "ring").parent.as_posix()
        'runs/ring'
    """
    return expanded(options.out or Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S"))


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in place of `~`, which shells leave alone in `--out=~/run`.

    Example:
        >>> expanded("~nobody_of_that_name/run").as_posix()
        '~nobody_of_that_name/run'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def add_flags(
    arguments: Arguments, owner: type[Any], names: Iterable[str], *, note: str = "", with_defaults: bool = False
) -> None:
    """Add a flag for each of the named fields of a dataclass, with the field's own description as the help.

    A flag that is left out leaves no attribute in the parsed options, so that `given` can tell it from `none`.
    Switches get a second flag, `--no-...`, and values that can be None accept the word `none`.

    Args:
        arguments: The parser, or a group of it.
        owner: The dataclass.
        names: The names of the fields.
        note: A sentence to add to each help text.
        with_defaults: Whether to add the field's default to its help text.

    Example:
        >>> from gankit.training.step.options import Options
        >>> parser = argparse.ArgumentParser()
        >>> add_flags(parser, Options, ["averaging_decay", "share_generator_forward"])
        >>> vars(parser.parse_args(["--averaging-decay", "none", "--no-share-generator-forward"]))
        {'averaging_decay': None, 'share_generator_forward': False}
        >>> vars(parser.parse_args([]))
        {}
    """
    hints = typing.get_type_hints(owner)
    descriptions = field_descriptions(owner)
    defaults = {field.name: field.default for field in dataclasses.fields(owner)}
    for name in names:
        default = f"By default, {defaults[name]}." if with_defaults and defaults[name] is not None else ""
        text = " ".join(filter(None, (descriptions.get(name), note, default))).replace("%", "%%")
        options: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS} | _reading(name, hints[name])
        arguments.add_argument(f"--{name.replace('_', '-')}", **options)


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named options that the command line gives.

    Example:
        >>> given(argparse.Namespace(steps=3), ["steps", "batch_size"])
        {'steps': 3}
    """
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def field_descriptions(owner: type[Any]) -> dict[str, str]:
    """Return what docstrings say about the fields of a dataclass, those of its base classes included.

    That is the first sentence about each field, and what follows about None and 0.

    Example:
        >>> from gankit.training.step.options import Options
        >>> field_descriptions(Options)["max_gradient_norm"]
        "The norm to which each network's gradient is clipped. None does not clip."
    """
    names = {field.name for field in dataclasses.fields(owner)}
    found: dict[str, str] = {}
    for one in owner.__mro__:
        docstring = inspect.cleandoc(one.__doc__ or "") + "\n"
        section = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", docstring, re.MULTILINE)
        entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section[1] if section else "", re.MULTILINE)
        for name, text in entries:
            first, *others = re.split(r"(?<=\.) ", " ".join(text.split()))
            special = [sentence for sentence in others if sentence.startswith(("None ", "0 "))]
            if name in names:
                found.setdefault(name, " ".join([first, *special]))
    return found


def _reading(name: str, hint: Any) -> dict[str, Any]:
    """Return the options of `add_argument` that make it read a value of this type."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        return {"type": _numbers, "metavar": "N,N,N"}
    kinds = [one for one in get_args(hint) or (hint,) if one is not types.NoneType]
    if Spec in kinds:
        return {"type": spec, "metavar": "NAME"}
    (kind,) = kinds
    metavar = {int: "N", float: "X"}.get(kind, name.upper())
    return {"type": _or_none(kind) if types.NoneType in get_args(hint) else kind, "metavar": metavar}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers with commas between them, got {text!r}") from None


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    read.__name__ = getattr(kind, "__name__", "value")  # argparse's errors name it
    return read


def named_regularizers(specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """Return the regularizers that `--regularizer` names; a single `none` stands for no regularizer.

    Example:
        >>> named_regularizers([Spec("none")]), named_regularizers([Spec("r1"), Spec("r2")])
        ((), (Spec('r1'), Spec('r2')))
    """
    return () if [one.name for one in specs] == ["none"] else tuple(specs)
