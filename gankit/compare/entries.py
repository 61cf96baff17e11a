"""`Entry`: one row of a comparison, as changes of a preset."""

from __future__ import annotations

import re
import typing
from typing import Any, cast

from typing_extensions import Unpack, override

from gankit.errors import BadArgumentsError, did_you_mean
from gankit.presets import Preset
from gankit.presets.changes import PresetChanges
from gankit.spec import Spec, keywords

_SAME_FOR_ALL = ("name", "description", "data", "sample_shape", "sample_range")
_HINTS = typing.get_type_hints(PresetChanges)
_FIELDS = tuple(field for field in _HINTS if field not in _SAME_FOR_ALL)
_PARTS = tuple(field for field in _FIELDS if Spec in typing.get_args(_HINTS[field]))
_UNCHANGED = "unchanged"


class Entry:
    """One row of a comparison: the fields of the preset that it changes.

    Its text form has parts with a plus sign between them: first the loss, if it is another one, then regularizers,
    and any other field as `field=value`. Regularizers take the place of the preset's; `none` stands for no regularizer,
    and `unchanged` for the preset as it is.

    | text | what is changed |
    |---|---|
    | `hinge` | the loss |
    | `hinge+r1:weight=1` | the loss and the regularizers |
    | `wasserstein+none` | the loss, without a regularizer |
    | `generator=mlp:hidden_dim=64` | the generator |
    | `averaging_decay=0.99+r1` | the average of G's weights and the regularizers |
    | `unchanged` | nothing |

    Args:
        **changes: The new values, by field, as in `Preset.replace`.

    Attributes:
        changes: The same, with a `Spec` in place of each name.

    Raises:
        BadArgumentsError: For a field that a preset does not have, or one that says what is learned: the data and the
            shape and range of the samples are the same for all entries, or their scores could not be compared.

    Example:
        >>> Entry(loss="hinge", averaging_decay=0.99).label
        'hinge+averaging_decay=0.99'
        >>> Entry.parse("generator=mlp:hidden_dim=64+none").changes
        {'generator': Spec('mlp', hidden_dim=64), 'regularizers': ()}
    """

    __slots__ = ("changes",)

    def __init__(self, **changes: Unpack[PresetChanges]) -> None:
        values = cast("dict[str, Any]", changes)
        for field, value in values.items():
            if field in _SAME_FOR_ALL:
                raise BadArgumentsError(f"{field} must be the same for all entries of a comparison, got {value!r}")
            if field not in _FIELDS:
                raise BadArgumentsError(
                    f"an entry can change {', '.join(_FIELDS)}, got {field!r}.{did_you_mean(field, _FIELDS)}"
                )
            if field in _PARTS and isinstance(value, str):
                values[field] = Spec.of(value)
            if field == "regularizers" and isinstance(value, (list, tuple)):
                names = cast("list[str | Spec]", value)
                values[field] = tuple(Spec.of(one) if isinstance(one, str) else one for one in names)
        self.changes: dict[str, Any] = values

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Read the text form.

        Raises:
            BadArgumentsError: For text that cannot be read.
        """
        parts = re.split(r"\+(?=[a-z])", text)  # the sign in 1e+3 is followed by a digit
        changes: dict[str, Any] = {}
        regularizers: list[str] = []
        for place, part in enumerate(parts):
            field, equals, value = part.partition("=")
            if equals and field.strip().isidentifier():
                field = field.strip()
                if field in changes or field == "regularizers":
                    is_wrong = "is given twice" if field in changes else "are written after a plus sign: +r1:weight=1"
                    raise BadArgumentsError(f"cannot read {text!r}: {field} {is_wrong}")
                changes[field] = _read(field, value)
            elif place > 0:
                regularizers.append(part)
            elif part != _UNCHANGED:
                changes["loss"] = Spec.parse(part)
        if regularizers:
            changes["regularizers"] = () if regularizers == ["none"] else tuple(map(Spec.parse, regularizers))
        return cls(**cast("PresetChanges", changes))

    @property
    def label(self) -> str:
        """The entry as text that `parse` can read, unless its loss is a `LossSchedule`."""
        others = {field: value for field, value in self.changes.items() if field not in ("loss", "regularizers")}
        regularizers = self.changes.get("regularizers")
        parts = [str(self.changes["loss"])] if "loss" in self.changes else []
        if not parts and (regularizers is not None or not others):
            parts = [_UNCHANGED]
        if regularizers is not None:
            parts += map(str, regularizers or ["none"])
        return "+".join([*parts, *(_written(field, value) for field, value in others.items())])

    def applied_to(self, preset: Preset) -> Preset:
        """Return the preset with these changes."""
        return preset.replace(**cast("PresetChanges", self.changes))

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.changes == other.changes

    @override
    def __hash__(self) -> int:
        return hash(frozenset(self.changes.items()))

    @override
    def __repr__(self) -> str:
        return f"Entry({', '.join(keywords(self.changes))})"


def split_entries(text: str) -> list[str]:
    """Split a text at the commas between losses, but not at those between the arguments of a loss.

    Example:
        >>> split_entries("hinge,f_divergence:divergence=kl,scale=2,minimax+r1:weight=1,every=4,non_saturating")
        ['hinge', 'f_divergence:divergence=kl,scale=2', 'minimax+r1:weight=1,every=4', 'non_saturating']
    """
    # after a comma, `name=` begins another argument, and inside brackets comes another element of a value
    return [part for part in re.split(r",(?!\w+=)(?![^\[]*\])", text) if part]


def _read(field: str, text: str) -> Any:
    """Return the value of a field: a part as a spec, and everything else as the value of an argument of a spec."""
    if field in _PARTS:
        return Spec.parse(text)
    if not text.strip():
        raise BadArgumentsError(f"cannot read '{field}=': it has no value")
    value, *others = Spec.parse(f"{_UNCHANGED}:{field}={text}").arguments.values()
    if others:
        raise BadArgumentsError(f"{field} must have one value, got {text!r}; fields are separated by plus signs")
    return None if isinstance(value, str) and value.lower() == "none" else value


def _written(field: str, value: Any) -> str:
    if isinstance(value, Spec):
        return f"{field}={value}"
    return f"{field}=none" if value is None else str(Spec("_", **{field: value})).removeprefix("_:")
