"""`HostReads` counts the values that Python reads from tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


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
        self._ignore_one_hot = _IgnoreOneHot(self)

    @override
    def __enter__(self) -> HostReads:
        self._ignore_one_hot.__enter__()
        super().__enter__()
        return self

    @override
    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # pyright: ignore[reportUnknownMemberType]
        self._ignore_one_hot.__exit__(*error)  # pyright: ignore[reportUnknownMemberType]

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _IgnoreOneHot(TorchFunctionMode):
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
