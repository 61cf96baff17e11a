"""Names of a package that are imported when they are first used (PEP 562).

A package that is a facade would otherwise import everything behind it, and torch takes seconds. Its `__init__` imports
the same names once more under `TYPE_CHECKING`, where editors and type checkers find them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package, whose modules are imported when they are first used too.

    Args:
        package: The name of the package.
        homes: The home of each name: `"package.module:name"`.

    Example:
        >>> import_name, list_names = lazy_names("json", {"decode": "json.decoder:JSONDecoder"})
        >>> import_name("decode").__name__, import_name("tool").__name__
        ('JSONDecoder', 'json.tool')
        >>> import_name("coder")
        Traceback (most recent call last):
        AttributeError: module 'json' has no attribute 'coder'
    """

    def import_name(name: str) -> Any:
        if name in homes:
            module, _, attribute = homes[name].partition(":")
            value = getattr(importlib.import_module(module), attribute)
        elif not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # the next time, Python finds it by itself
        return value

    def list_names() -> list[str]:
        present = vars(sys.modules[package])
        return sorted({*present, *present.get("__all__", ())})

    return import_name, list_names
