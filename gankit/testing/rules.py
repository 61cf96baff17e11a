"""`Rules`: the named rules for one kind of part, and how a broken one is reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from torch import Tensor, nn

from gankit.errors import BadValueError, ConformanceError, did_you_mean
from gankit.testing.isolation import isolated

SubjectT = TypeVar("SubjectT", bound="Subject")

Violation: TypeAlias = "str | None"
"""How a part breaks a rule: the input and the result. None if the part keeps the rule."""


class Subject:
    """A part under check. Each kind of part has a subclass with methods that call the part.

    Attributes:
        doing: The call in progress, for the error message if it raises.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.doing: str = f"looking at {title}"

    def tensor(self, result: object) -> Tensor:
        """Return the result of a part's call, or raise `TypeError` if it is not a tensor."""
        if not isinstance(result, Tensor):
            raise TypeError(f"the result must be a tensor, got a {type(result).__name__}")
        return result


@dataclass(frozen=True)
class Rule(Generic[SubjectT]):
    """One rule: its name, what usually breaks it, and the test.

    Example:
        >>> rule = Rule[Subject]("never", "none", lambda subject: None)
        >>> rule.test(Subject("x")) is None
        True
    """

    name: str
    cause: str
    test: Callable[[SubjectT], Violation]


class Rules(Generic[SubjectT]):
    """The rules of one kind of part, in the order in which they are checked.

    Args:
        check: the name of the function that checks them, for messages.

    Example:
        >>> rules = Rules[Subject]("check_nothing")
        >>> @rules.rule("untitled", "a title")
        ... def untitled(subject): return "it has one" if subject.title else None
        >>> rules.check(Subject("x"))
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_nothing: x breaks the rule 'untitled': it has one; the usual cause \
is a title
    """

    def __init__(self, check: str) -> None:
        self.name = check
        self._rules: dict[str, Rule[SubjectT]] = {}

    def rule(
        self, name: str, cause: str
    ) -> Callable[[Callable[[SubjectT], Violation]], Callable[[SubjectT], Violation]]:
        """Return a decorator that adds a rule with the decorated function as its test."""

        def add(test: Callable[[SubjectT], Violation]) -> Callable[[SubjectT], Violation]:
            self._rules[name] = Rule(name, cause, test)
            return test

        return add

    @property
    def causes(self) -> dict[str, str]:
        """The name of each rule and what usually breaks it, in the order of the checks."""
        return {rule.name: rule.cause for rule in self._rules.values()}

    def check(self, subject: SubjectT, skip: Collection[str] = ()) -> None:
        """Raise `ConformanceError` for the first rule that the subject breaks; global settings stay as they are."""
        for name in skip:
            if name not in self._rules:
                raise BadValueError(
                    f"skip must name rules of {self.name}, got {name!r}.{did_you_mean(name, self._rules)} "
                    f"Known: {', '.join(self._rules)}"
                )
        with isolated():
            for rule in self._rules.values():
                if rule.name not in skip:
                    self._hold(subject, rule)

    def _hold(self, subject: SubjectT, rule: Rule[SubjectT]) -> None:
        raised = None
        try:
            violation = rule.test(subject)
        except Exception as error:  # noqa: BLE001, whatever a stranger's part raises
            violation, raised = f"{subject.doing} raised {type(error).__name__}: {reason(error)}", error
        if violation:
            raise ConformanceError(
                f"{self.name}: {subject.title} breaks the rule {rule.name!r}: {violation}; the usual cause is "
                f"{rule.cause}",
                rule=rule.name,
            ) from raised


def reason(error: Exception) -> str:
    """Return an error's message on one line, cut to 200 characters.

    Example:
        >>> reason(ValueError("first  second"))
        'first second'
    """
    return " ".join(str(error).split())[:200]


def title_of(part: object) -> str:
    """Return the name of a part in messages: its `__name__` or `repr`, or its class for modules and long names.

    Example:
        >>> title_of(1.0), title_of(nn.Sequential(nn.Linear(2, 2))), title_of(title_of)
        ('1.0', 'Sequential', 'title_of')
    """
    shown = getattr(part, "__name__", None) or repr(part)
    return type(part).__name__ if isinstance(part, nn.Module) or len(shown) > 80 or "0x" in shown else shown


def snake_case(name: str) -> str:
    """Return a class's name in snake case, as the registries write the names of parts.

    Example:
        >>> snake_case("NonSaturating")
        'non_saturating'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
