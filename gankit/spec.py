"""`Spec`: the name of a part together with the arguments for building it.

This module needs only the standard library.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from gankit.errors import BadArgumentsError

_BARE_WORD = re.compile(r"[A-Za-z_][\w./-]*")


class Spec:
    """The name of a part together with the arguments for building it.

    A spec is hashable and comparable. Its JSON form is `{"name": "mlp", "hidden_dim": 128}`; its short form, for the
    command line, is `mlp:hidden_dim=128`.

    Args:
        name: The name of the part in its registry.
        **arguments: The keyword arguments for the part's factory. Lists become tuples, so that the spec can be hashed.
            For `to_dict` they must be values that JSON can hold, or specs.

    Raises:
        BadArgumentsError: If an argument is called `name`, or cannot be hashed.

    Example:
        >>> spec = Spec("mlp", hidden_dim=128)
        >>> spec.to_dict()
        {'name': 'mlp', 'hidden_dim': 128}
        >>> str(spec)
        'mlp:hidden_dim=128'
        >>> Spec.parse("mlp:hidden_dim=128") == spec == Spec.from_dict(spec.to_dict())
        True
    """

    __slots__ = ("_arguments", "_name")

    def __init__(self, name: str, /, **arguments: Any) -> None:
        if not isinstance(name, str) or not name:
            raise BadArgumentsError(f"a spec's name must be a non-empty string, got {name!r}")
        if "name" in arguments:
            raise BadArgumentsError(f"spec {name!r} cannot have an argument called 'name'")
        self._name = name
        self._arguments = {key: _freeze(key, value) for key, value in arguments.items()}

    @property
    def name(self) -> str:
        """The name of the part."""
        return self._name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, as a new dictionary."""
        return dict(self._arguments)

    def with_defaults(self, /, **arguments: Any) -> Spec:
        """Return a spec that has, in addition, those of `arguments` that this spec does not set itself.

        Example:
            >>> Spec("adam", lr=0.1).with_defaults(lr=0.5, fused=True)
            Spec('adam', lr=0.1, fused=True)
        """
        missing = {k: v for k, v in arguments.items() if k not in self._arguments}
        return Spec(self._name, **self._arguments, **missing)

    @classmethod
    def of(cls, ref: str | Spec) -> Spec:
        """Return `ref` itself if it is a spec, or a spec without arguments if it is a name.

        Example:
            >>> Spec.of("mlp")
            Spec('mlp')
        """
        return ref if isinstance(ref, Spec) else cls(ref)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form.

        Raises:
            BadArgumentsError: If JSON cannot hold an argument.
        """
        arguments = {key: to_json(value, f"{self._name}:{key}") for key, value in self._arguments.items()}
        return {"name": self._name} | arguments

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Spec:
        """Return the spec of a JSON form.

        Raises:
            BadArgumentsError: If `form` is not a mapping with a name.
        """
        if not isinstance(form, Mapping):
            raise BadArgumentsError(f"a spec's JSON form must be a mapping with a 'name', got {form!r}")
        if not isinstance(form.get("name"), str):
            raise BadArgumentsError(f"a spec's JSON form needs a 'name', got {dict(form)!r}")
        return cls(form["name"], **{key: from_json(v) for key, v in form.items() if key != "name"})

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Return the spec of a short form such as `mlp:hidden_dim=128,block="maxout",widths=[64,32]`.

        A value is read as JSON or as a Python literal; if it is neither, it is read as a plain word.

        Raises:
            BadArgumentsError: If an argument has no value or no name, or is given twice.

        Example:
            >>> Spec.parse("mlp:hidden_dim=128,block=maxout,widths=[64, 32]")
            Spec('mlp', hidden_dim=128, block='maxout', widths=(64, 32))
        """
        name, colon, rest = text.partition(":")
        arguments: dict[str, Any] = {}
        while rest or colon:
            key, equals, rest = rest.partition("=")
            key = key.strip()
            if not equals or not key.isidentifier():
                raise BadArgumentsError(
                    f"cannot read {text!r}: after '{name}:' write argument=value, "
                    f"separated by commas, got {key + equals + rest!r}"
                )
            if key in arguments:
                raise BadArgumentsError(f"cannot read {text!r}: {key!r} is given twice")
            if rest.lstrip()[:1] in ("", ","):
                raise BadArgumentsError(f'cannot read {text!r}: {key!r} has no value; an empty one is written ""')
            arguments[key], colon, rest = _read_value(rest)
        return cls(name.strip(), **arguments)

    def __str__(self) -> str:
        if not self._arguments:
            return self._name
        values = (f"{key}={_short(self._name, key, v)}" for key, v in self._arguments.items())
        return f"{self._name}:{','.join(values)}"

    def __repr__(self) -> str:
        return f"Spec({', '.join([repr(self._name), *keywords(self._arguments)])})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec):
            return NotImplemented
        return self._name == other._name and self._arguments == other._arguments

    def __hash__(self) -> int:
        return hash((self._name, frozenset(self._arguments.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_spec, (self._name, self._arguments))


def _rebuild_spec(name: str, arguments: dict[str, Any]) -> Spec:
    return Spec(name, **arguments)


def _freeze(key: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(key, one) for one in cast("list[Any]", value))
    if isinstance(value, Mapping):
        return Spec.from_dict(cast("Mapping[str, Any]", value))
    try:
        hash(value)
    except TypeError:
        raise BadArgumentsError(
            f"a spec's argument must be hashable, got {key}={value!r}; pass the finished part instead"
        ) from None
    return value


def to_json(value: Any, where: str) -> Any:
    """Return a value in plain containers that JSON can hold: a spec as a mapping, a tuple as a list.

    Args:
        value: The value.
        where: What the value belongs to, for the error.

    Raises:
        BadArgumentsError: For a value that is neither a spec, a tuple, a number, a string, a boolean nor None.

    Example:
        >>> to_json((Spec("r1", every=4), None), "regularizers")
        [{'name': 'r1', 'every': 4}, None]
    """
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, tuple):
        return [to_json(one, where) for one in cast("tuple[Any, ...]", value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise BadArgumentsError(f"{where} has no JSON form: {value!r}; use the name of the part instead of the object")


def from_json(value: Any) -> Any:
    """Return the value that `to_json` described: a mapping becomes a spec, and a list a tuple.

    Example:
        >>> from_json([{"name": "r1", "every": 4}, None])
        (Spec('r1', every=4), None)
    """
    if isinstance(value, list):
        return tuple(from_json(one) for one in cast("list[Any]", value))
    return Spec.from_dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


def _read_value(text: str) -> tuple[Any, str, str]:
    """Read the first value of `text`; return it, the comma after it (or an empty string), and the rest."""
    stripped = text.lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(stripped)
        after = stripped[end:].lstrip()
        if not after or after[0] == ",":
            return from_json(value), after[:1], after[1:]
    except (ValueError, RecursionError):  # ValueError also for a number with too many digits
        pass  # the value is a Python literal or a plain word
    word, comma, rest = stripped.partition(",")
    word = word.strip()
    try:
        return ast.literal_eval(word), comma, rest
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word, comma, rest


def _short(name: str, key: str, value: Any) -> str:
    if isinstance(value, str) and _BARE_WORD.fullmatch(value) and _read_value(value)[0] == value:
        return value
    return json.dumps(to_json(value, f"{name}:{key}"), separators=(",", ":"))


def keywords(arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments as they are written in a call.

    Example:
        >>> keywords({"lr": 0.1, "block": "maxout"})
        ['lr=0.1', "block='maxout'"]
    """
    return [f"{key}={value!r}" for key, value in arguments.items()]
