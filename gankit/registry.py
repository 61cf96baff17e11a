"""`Registry` maps names to the factories that build parts.

This module needs only the standard library.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib.metadata
import inspect
import re
import threading
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_origin, overload

from gankit.errors import (
    LARGEST,
    BadArgumentsError,
    BadNameError,
    DuplicateNameError,
    PluginWarning,
    UnknownNameError,
    did_you_mean,
    is_too_large,
    warn,
)
from gankit.spec import Spec, keywords

__all__ = [
    "BadArgumentsError",
    "BadNameError",
    "DuplicateNameError",
    "PluginWarning",
    "Registry",
    "Spec",
    "UnknownNameError",
]

Part = TypeVar("Part")
Factory = TypeVar("Factory", bound=Callable[..., Any])

# the types that a value from a command line or from JSON can have, apart from lists
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), Spec)
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Registry(Generic[Part]):
    """The factories of one kind of part, by name.

    Args:
        kind: The word for such a part in messages, such as `"loss"`.
        group: The entry-point group in which other packages offer parts, such as `"gankit.losses"`. Entry points are
            loaded when a name is first looked up; one that cannot be loaded is skipped with a warning. None for no
            group.

    Example:
        >>> colours = Registry[str]("colour")
        >>> @colours.register("red")
        ... def red(depth: int = 1) -> str:
        ...     '''Plain red.'''
        ...     return "red" * depth
        >>> colours.names(), colours.build("red"), colours.build(Spec("red", depth=2))
        (['red'], 'red', 'redred')
        >>> colours.build("ret")
        Traceback (most recent call last):
        gankit.errors.UnknownNameError: unknown colour 'ret'. Did you mean 'red'? Known: red
        >>> colours.build("red", dept=2)
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: colour 'red'(depth: int = 1) got an unexpected argument 'dept'. \
Did you mean 'depth'?
    """

    def __init__(self, kind: str, *, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._factories: dict[str, Callable[..., Part]] = {}
        self._loaded = group is None
        self._lock = threading.RLock()

    @overload
    def register(self, name: str, factory: None = None, *, replace: bool = False) -> Callable[[Factory], Factory]: ...

    @overload
    def register(self, name: str, factory: Factory, *, replace: bool = False) -> Factory: ...

    def register(self, name: str, factory: Any = None, *, replace: bool = False) -> Any:
        """Register a factory under a name, or return a decorator that registers one.

        Args:
            name: The name, in `snake_case`.
            factory: The class or function that builds the part. None returns a decorator.
            replace: Whether the name may be taken from another part, as by a notebook cell that is run twice.

        Raises:
            BadNameError: If the name is not in `snake_case`, or is missing (`@register` instead of
                `@register(name)`).
            BadArgumentsError: If the factory cannot be called.
            DuplicateNameError: If the name is taken; the message names both parts.
        """
        if not isinstance(name, str):
            raise BadNameError(f"a {self.kind}'s name must be a string, as in register('my_{self.kind}'), got {name!r}")
        if factory is None:
            return functools.partial(self._register, name, replace=replace)
        return self._register(name, factory, replace=replace)

    def _register(self, name: str, factory: Any, *, replace: bool) -> Any:
        if not _SNAKE_CASE.fullmatch(name):
            raise BadNameError(
                f"a {self.kind}'s name must be snake_case (letters a-z, digits, single underscores), got {name!r}"
            )
        if not callable(factory):
            raise BadArgumentsError(f"{self.kind} {name!r} needs a class or function that builds it, got {factory!r}")
        owner = self._factories.get(name)
        if owner is not None and not replace:
            raise DuplicateNameError(
                f"{self.kind} {name!r} is already {_owner(owner)}, so {_owner(factory)} needs another "
                "name or replace=True"
            )
        self._factories[name] = cast("Callable[..., Part]", factory)
        return factory

    def names(self, pattern: str = "*") -> list[str]:
        """Return the registered names that match a shell wildcard, sorted."""
        self._load_plugins()
        return sorted(fnmatch.filter(self._factories, pattern))

    def get(self, name: str) -> Callable[..., Part]:
        """Return the factory of that name, or raise `UnknownNameError`."""
        self._load_plugins()
        if name in self._factories:
            return self._factories[name]
        known = ", ".join(sorted(self._factories)) or "none yet"
        hint = did_you_mean(name, self._factories)
        if not hint and ":" in name:
            hint = f" Arguments go into a Spec: Spec.parse({name!r})."
        raise UnknownNameError(f"unknown {self.kind} {name!r}.{hint} Known: {known}")

    def build(self, ref: Any, /, *args: Any, **kwargs: Any) -> Part:
        """Build the part that `ref` refers to.

        Args:
            ref: A name, a `Spec` or its JSON form, a factory (class, function or partial of one), or a finished part,
                which is returned unchanged.
            *args: Positional arguments for the factory.
            **kwargs: Keyword arguments for the factory, in addition to those of the spec.

        Raises:
            UnknownNameError: If no part has this name.
            BadArgumentsError: If the arguments do not match the factory's signature (which is checked before the
                call), are given twice, or are given for a finished part.
        """
        if isinstance(ref, Mapping):
            ref = Spec.from_dict(cast("Mapping[str, Any]", ref))
        if isinstance(ref, Spec):
            twice = sorted(ref.arguments.keys() & kwargs.keys())
            if twice:
                raise BadArgumentsError(
                    f"{self.kind} {ref.name!r} got {twice[0]!r} twice: {ref.arguments[twice[0]]!r} in the "
                    f"spec and {kwargs[twice[0]]!r} from the caller"
                )
            kwargs = ref.arguments | kwargs
            ref = ref.name
        if isinstance(ref, str):
            factory, label = self.get(ref), f"{self.kind} {ref!r}"
        elif _is_factory(ref):
            factory, label = ref, f"{self.kind} {_qualified_name(ref)}"
        else:
            if args or kwargs:
                given = ", ".join([*map(repr, args), *keywords(kwargs)])
                raise BadArgumentsError(
                    f"a finished {self.kind} takes no arguments, got {given} for {type(ref).__name__}"
                )
            return ref
        if isinstance(factory, functools.partial):  # whose own arguments are checked too
            partial = cast("functools.partial[Part]", factory)
            factory, args, kwargs = partial.func, (*partial.args, *args), partial.keywords | kwargs
        _check_arguments(label, factory, args, kwargs)
        return factory(*args, **kwargs)

    def accepts(self, ref: Any, argument: str) -> bool:
        """Return whether the factory of `ref` has a parameter of this name. A finished part has none.

        Example:
            >>> colours = Registry[str]("colour")
            >>> _ = colours.register("blue", lambda depth: "blue" * depth)
            >>> colours.accepts("blue", "depth"), colours.accepts("blue", "width")
            (True, False)
        """
        if isinstance(ref, Spec):
            ref = ref.name
        if isinstance(ref, str):
            ref = self.get(ref)
        elif not _is_factory(ref):
            return False
        signature = _signature(ref)
        if signature is None:
            return False
        named = signature.parameters.get(argument)
        return named is not None and named.kind in (named.KEYWORD_ONLY, named.POSITIONAL_OR_KEYWORD)

    def signature(self, name: str) -> str:
        """Return the signature of a part's factory as text: `(weight: float = 10.0, every: int = 1)`."""
        signature = _signature(self.get(name))
        return "(...)" if signature is None else _text(signature)

    def summary(self, name: str) -> str:
        """Return the first line of a part's docstring."""
        return self.documentation(name).partition("\n")[0]

    def documentation(self, name: str) -> str:
        """Return a part's docstring. That of a partial is the docstring of its function."""
        return inspect.getdoc(_called(self.get(name))) or ""

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __repr__(self) -> str:
        return f"<Registry of {self.kind}: {', '.join(self.names())}>"

    def _load_plugins(self) -> None:
        if self._loaded:
            return
        with self._lock:
            if self._loaded:
                return
            # set before loading, because a plug-in may look up a name while it is imported
            self._loaded = True
            for entry in importlib.metadata.entry_points(group=cast(str, self.group)):
                try:
                    factory = entry.load()
                    # the module may have registered the part itself, with the decorator
                    if self._factories.get(entry.name) is not factory:
                        self._register(entry.name, factory, replace=False)
                except (Exception, SystemExit) as error:  # noqa: BLE001 (the import of another package may raise any error)
                    owner = entry.dist.name if entry.dist else "an unknown package"
                    message = (
                        f"{owner}: the entry point {entry.name!r} = {entry.value!r} in {self.group!r} failed "
                        f"({type(error).__name__}: {error}); this {self.kind} is not available"
                    )
                    warn(message, PluginWarning)


# --- arguments -------------------------------------------------------------------------------------------


def _check_arguments(label: str, factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signature = _signature(factory)
    if signature is None:
        return
    text = f"{label}{_text(signature)}"
    named = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key in kwargs:
        if key not in named and not open_ended:
            raise BadArgumentsError(f"{text} got an unexpected argument {key!r}.{did_you_mean(key, named)}")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise BadArgumentsError(f"{text}: {error}") from None
    try:
        hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (NameError, TypeError, AttributeError):
        return  # only a type checker can resolve these annotations, so that values cannot be compared with them
    for key, value in bound.arguments.items():
        if key in hints and key in named and not fits(value, hints[key]):
            wanted = _wanted(hints[key], signature.parameters[key])
            if is_too_large(value):
                wanted += f", {LARGEST}"
            raise BadArgumentsError(f"{text}: {key!r} must be {wanted}, got {value!r}")


def fits(value: object, hint: Any) -> bool:
    """Return whether `value` may have the type `hint`; True if this cannot be decided simply.

    Example:
        >>> fits(3, int | None), fits("3", int), fits([3], tuple[int, ...])
        (True, False, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not is_too_large(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin is get_origin(Callable[..., Any]):
        return callable(value)
    if origin in (tuple, list) or (inspect.isclass(origin) and origin.__module__ == "collections.abc"):
        # a string is a sequence too, but never the intended one
        return not isinstance(value, _PLAIN) and _elements_fit(value, origin, inner)
    # an argument annotated with Spec may also be a name or a finished part; whoever builds the part checks that
    if not inspect.isclass(hint) or hint in (Any, object, Spec) or getattr(hint, "_is_protocol", False):
        return True
    if isinstance(value, str):  # a string may stand for a path, but never for an object of torch
        return issubclass(str, hint) or hint.__module__.partition(".")[0] != "torch"
    # an object of any class may behave like one of this class, but a value that comes from JSON does not
    return type(value) not in (*_PLAIN, tuple) or isinstance(value, hint)


def _elements_fit(value: object, origin: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, (tuple, list)):
        return True
    elements = cast("Sequence[object]", value)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return len(elements) == len(inner) and all(map(fits, elements, inner))
    is_mapping = origin is not tuple and len(inner) > 1
    return not inner or is_mapping or all(fits(one, inner[0]) for one in elements)


def _wanted(hint: Any, parameter: inspect.Parameter) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    return inspect.formatannotation(parameter.annotation).strip("'\"")


def _is_factory(ref: object) -> bool:
    called = _called(ref)
    return inspect.isclass(called) or inspect.isroutine(called)


def _called(ref: Any) -> Any:
    """Return what a partial calls, and everything else as it is."""
    return cast("functools.partial[Any]", ref).func if isinstance(ref, functools.partial) else ref


def arguments_of(ref: object) -> dict[str, Any]:
    """Return the arguments that a reference to a part gives itself, by name: those of a spec or a partial.

    Example:
        >>> arguments_of(Spec("mlp", depth=2)), arguments_of(functools.partial(divmod, 7)), arguments_of("mlp")
        ({'depth': 2}, {'x': 7}, {})
    """
    if isinstance(ref, Spec):
        return ref.arguments
    if not isinstance(ref, functools.partial):
        return {}
    partial = cast("functools.partial[Any]", ref)
    try:
        return dict(inspect.signature(partial.func).bind_partial(*partial.args, **partial.keywords).arguments)
    except (TypeError, ValueError):  # arguments that do not fit are refused when the part is built
        return dict(partial.keywords)


def _signature(factory: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(factory)
    except (ValueError, TypeError):  # some built-in callables have no signature
        return None


def _text(signature: inspect.Signature) -> str:
    parameters = [
        p.replace(annotation=p.annotation.strip("'\"")) if isinstance(p.annotation, str) else p
        for p in signature.parameters.values()
    ]
    shown = [_parameter_text(p) for p in parameters]
    keyword_only = [p.kind is p.KEYWORD_ONLY for p in parameters]
    if any(keyword_only) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        shown.insert(keyword_only.index(True), "*")
    return f"({', '.join(shown)})"


def _parameter_text(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    if parameter.annotation is not parameter.empty:
        shown = parameter.annotation
        text += f": {shown if isinstance(shown, str) else inspect.formatannotation(shown)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}" if ":" in text else f"={parameter.default!r}"
    return text


def _qualified_name(factory: Any) -> str:
    factory = _called(factory)
    return getattr(factory, "__qualname__", None) or type(factory).__name__


def _owner(factory: Any) -> str:
    return f"{getattr(factory, '__module__', type(factory).__module__)}.{_qualified_name(factory)}"
