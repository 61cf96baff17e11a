"""`Rules`: the named rules for one kind of part, and the error for a broken one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Generic, TypeAlias, TypeVar

from torch import Tensor, nn

from gankit.errors import BadValueError, ConformanceError, did_you_mean
from gankit.testing.isolation import isolated

SubjectT = TypeVar("SubjectT", bound="Subject")

Violation: TypeAlias = str | None
"""How a part breaks a rule, with the input on which it does; None if the part follows the rule."""

RuleTest: TypeAlias = Callable[[SubjectT], Violation]
"""Tests one rule."""

GLOBAL_RANDOM_CAUSE = "torch.rand or another function that draws from the global random generator"
HOST_READ_CAUSE = "an .item(), float(), bool() or `if` on a tensor, which makes Python wait for the GPU"
FIXED_DEVICE_CAUSE = "a tensor created on a fixed device, or data moved to the CPU by .cpu() or .tolist()"


class Subject:
    """The part that a check tests. Each kind of part has a subclass, with ways to call the part.

    Args:
        title: The name of the part in messages.

    Attributes:
        current_call: The call in progress, which the message names if the part raises an error.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.current_call: str = f"reading {title}"

    def as_tensor(self, result: object) -> Tensor:
        """Return the result of a call, which must be a tensor."""
        if not isinstance(result, Tensor):
            raise TypeError(f"the result must be a tensor, got {type(result).__name__}")
        return result


@dataclass(frozen=True)
class Rule(Generic[SubjectT]):
    """One rule.

    Args:
        name: The name of the rule.
        cause: The mistake that usually breaks the rule.
        test: The function that tests the rule.
    """

    name: str
    cause: str
    test: RuleTest[SubjectT]


class Rules(Generic[SubjectT]):
    """The rules for one kind of part, in the order in which they are tested.

    Args:
        check: The name of the function that checks them, for messages.

    Example:
        >>> rules = Rules[Subject]("check_nothing")
        >>> @rules.rule("untitled", "a title")
        ... def title_violation(subject): return "it has a title" if subject.title else None
        >>> rules.check(Subject("x"))
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_nothing: x breaks the rule 'untitled': it has a title; the usual cause \
is a title
    """

    def __init__(self, check: str) -> None:
        self._check_name = check
        self._rules: dict[str, Rule[SubjectT]] = {}

    def rule(self, name: str, cause: str) -> Callable[[RuleTest[SubjectT]], RuleTest[SubjectT]]:
        """Return a decorator that adds a function as the test of a rule."""

        def add(test: RuleTest[SubjectT]) -> RuleTest[SubjectT]:
            self._rules[name] = Rule(name, cause, test)
            return test

        return add

    @property
    def causes(self) -> dict[str, str]:
        """The usual cause of each failure by the name of the rule, in order."""
        return {rule.name: rule.cause for rule in self._rules.values()}

    def check(self, subject: SubjectT, skip: Collection[str] = ()) -> None:
        """Raise `ConformanceError` for the first broken rule; leave the caller's settings unchanged."""
        for name in skip:
            if name not in self._rules:
                raise BadValueError(
                    f"skip must name rules of {self._check_name}, got {name!r}.{did_you_mean(name, self._rules)} "
                    f"Known: {', '.join(self._rules)}"
                )
        with isolated():
            for rule in self._rules.values():
                if rule.name not in skip:
                    self._test(subject, rule)

    def _test(self, subject: SubjectT, rule: Rule[SubjectT]) -> None:
        cause = None
        try:
            violation = rule.test(subject)
        except Exception as error:  # noqa: BLE001, a part may raise anything
            violation = f"{subject.current_call} raised {type(error).__name__}: {message_of(error)}"
            cause = error
        if violation:
            raise ConformanceError(
                f"{self._check_name}: {subject.title} breaks the rule {rule.name!r}: {violation}; the usual cause is "
                f"{rule.cause}",
                rule=rule.name,
            ) from cause


def message_of(error: Exception) -> str:
    """Return an error's message on one line, cut to 200 characters.

    Example:
        >>> message_of(ValueError("first  second"))
        'first second'
    """
    return " ".join(str(error).split())[:200]


def title_of(part: object) -> str:
    """Return the name of a part in messages: its `repr` if that is short, otherwise the name of its class.

    Example:
        >>> title_of(1.0), title_of(nn.Sequential(nn.Linear(2, 2))), title_of(title_of)
        ('1.0', 'Sequential', 'title_of')
    """
    if isinstance(part, type | FunctionType | BuiltinFunctionType):
        return part.__name__
    shown = repr(part)
    return type(part).__name__ if isinstance(part, nn.Module) or len(shown) > 80 or "0x" in shown else shown


def snake_case(name: str) -> str:
    """Return the name of a class as the name of a part.

    Example:
        >>> snake_case("NonSaturating")
        'non_saturating'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
