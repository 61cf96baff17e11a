"""`HostReads` counts the values that Python reads from tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class HostReads(TorchDispatchMode):
    """Count the values that Python reads by `.item()`, `float()`, `bool()` or an `if`. On a GPU, each read waits.

    The reads of `one_hot` are not counted, because it checks its labels only on the CPU.

    Example:
        >>> with HostReads() as reads:
        ...     _ = torch.ones(3).sum().item()
        >>> reads.count
        1
    """

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.count: int = 0
        self._ignore_one_hot = _IgnoreOneHot(self)

    @override
    def __enter__(self) -> HostReads:
        self._ignore_one_hot.__enter__()
        super().__enter__()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)  # pyright: ignore[reportUnknownMemberType]
        self._ignore_one_hot.__exit__(kind, error, traceback)  # pyright: ignore[reportUnknownMemberType]

    @override
    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _IgnoreOneHot(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self._reads = reads

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        before = self._reads.count
        result = func(*args, **(kwargs or {}))
        if func is F.one_hot:
            self._reads.count = before
        return result


def count_host_reads(call: Callable[[], object]) -> int:
    """Call a function; return how many values it reads from tensors.

    Example:
        >>> count_host_reads(lambda: float(torch.ones(()))), count_host_reads(lambda: torch.ones(()) + 1)
        (1, 0)
    """
    with HostReads() as reads:
        call()
    return reads.count
