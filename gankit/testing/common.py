"""What the checks share: rules with stable names, an undisturbed caller, a watch on reads by the host."""

from __future__ import annotations

import random
import re
import sys
import warnings
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from gankit.errors import BadValueError, ConformanceError, did_you_mean

SubjectT = TypeVar("SubjectT", bound="Subject")

Offence: TypeAlias = "str | None"
"""What a rule found: the input and what came of it; None where the rule holds."""


class Subject:
    """What a check looks at. Each kind of part has its own, with ways to call the part.

    Attributes:
        doing: the call that is under way, for the message where it raises.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.doing: str = f"looking at {title}"

    def tensor(self, result: object) -> Tensor:
        """Return what a part answered, which must be a tensor."""
        if not isinstance(result, Tensor):
            raise TypeError(f"the answer must be a tensor, got a {type(result).__name__}")
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
    test: Callable[[SubjectT], Offence]


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

    def rule(self, name: str, cause: str) -> Callable[[Callable[[SubjectT], Offence]], Callable[[SubjectT], Offence]]:
        """Add a rule, by decoration of its test."""

        def add(test: Callable[[SubjectT], Offence]) -> Callable[[SubjectT], Offence]:
            self._rules[name] = Rule(name, cause, test)
            return test

        return add

    @property
    def causes(self) -> dict[str, str]:
        """The rules' names, in order, with what usually breaks each."""
        return {rule.name: rule.cause for rule in self._rules.values()}

    def check(self, subject: SubjectT, skip: Collection[str] = ()) -> None:
        """Raise `ConformanceError` for the first rule that is broken; leave the caller undisturbed."""
        for name in skip:
            if name not in self._rules:
                raise BadValueError(
                    f"skip must name rules of {self.name}, got {name!r}.{did_you_mean(name, self._rules)} "
                    f"Known: {', '.join(self._rules)}"
                )
        with undisturbed():
            for rule in self._rules.values():
                if rule.name not in skip:
                    self._hold(subject, rule)

    def _hold(self, subject: SubjectT, rule: Rule[SubjectT]) -> None:
        raised = None
        try:
            offence = rule.test(subject)
        except Exception as error:  # noqa: BLE001, whatever a stranger's part raises
            offence, raised = f"{subject.doing} raised {type(error).__name__}: {reason(error)}", error
        if offence:
            raise ConformanceError(
                f"{self.name}: {subject.title} breaks the rule {rule.name!r}: {offence}; the usual cause is "
                f"{rule.cause}",
                rule=rule.name,
            ) from raised


def reason(error: Exception) -> str:
    """Return an error's message on one line, shortened where it is long.

    Example:
        >>> reason(ValueError("first  second"))
        'first second'
    """
    return " ".join(str(error).split())[:200]


def title_of(part: object) -> str:
    """Return how messages call a part: its `repr` where that is short, else its class.

    Example:
        >>> title_of(1.0), title_of(nn.Sequential(nn.Linear(2, 2))), title_of(title_of)
        ('1.0', 'Sequential', 'title_of')
    """
    shown = getattr(part, "__name__", None) or repr(part)
    return type(part).__name__ if isinstance(part, nn.Module) or len(shown) > 80 or "0x" in shown else shown


def snake_case(name: str) -> str:
    """Return a class's name as a part's.

    Example:
        >>> snake_case("NonSaturating")
        'non_saturating'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# --- the caller's world ----------------------------------------------------------------------------------


def global_random_state() -> list[Any]:
    """Return the state of every global random generator of this process: torch's, Python's, NumPy's if loaded.

    Example:
        >>> before = global_random_state()
        >>> same_random_state(before, global_random_state())
        True
    """
    numpy: Any = sys.modules.get("numpy")
    return [torch.get_rng_state(), random.getstate(), None if numpy is None else numpy.random.get_state()]


def same_random_state(before: list[Any], after: list[Any]) -> bool:
    """Whether two states are the same.

    Example:
        >>> before = global_random_state()
        >>> with undisturbed():
        ...     _ = torch.rand(1)
        ...     same_random_state(before, global_random_state())
        False
        >>> same_random_state(before, global_random_state())
        True
    """
    return torch.equal(before[0], after[0]) and before[1] == after[1] and str(before[2]) == str(after[2])


@contextmanager
def undisturbed() -> Generator[None]:
    """Run what is inside with gradients, without warnings, autocast and a default device; put random states back.

    Example:
        >>> with torch.no_grad(), undisturbed():
        ...     torch.is_grad_enabled()
        True
    """
    torch_state, python_state, numpy_state = global_random_state()
    try:
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.device("cpu"),
        ):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the GPUs too
            yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy_state is not None:
            sys.modules["numpy"].random.set_state(numpy_state)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers from a generator of their own; the same seed gives the same.

    Example:
        >>> bool((normal(2, 3, seed=1) == normal(2, 3, seed=1)).all())
        True
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def shape_text(tensor: Tensor) -> str:
    """Return a tensor's shape as messages write it.

    Example:
        >>> shape_text(torch.zeros(4, 1))
        '(4, 1)'
    """
    return str(tuple(tensor.shape))


# --- reads by the host -----------------------------------------------------------------------------------


class HostReads(TorchDispatchMode):
    """Count the tensors that Python reads by `.item()`, `float()`, `bool()` or an `if`; each waits for a GPU.

    `one_hot` checks its labels on the CPU alone, and is not counted.

    Example:
        >>> with HostReads() as reads:
        ...     _ = torch.ones(3).sum().item()
        >>> reads.count
        1
    """

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.count: int = 0
        self._forgiving = _Forgiving(self)

    @override
    def __enter__(self) -> HostReads:
        self._forgiving.__enter__()
        super().__enter__()
        return self

    @override
    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]
        self._forgiving.__exit__(*error)  # pyright: ignore[reportUnknownMemberType]

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _Forgiving(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.reads.count
        result = func(*args, **(kwargs or {}))
        if func is F.one_hot:
            self.reads.count = before
        return result
