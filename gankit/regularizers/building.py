"""Regularizers from names, `Spec`s and objects, each under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from gankit.errors import BadArgumentsError, BadValueError
from gankit.protocols import Constraint, Regularizer, part_name
from gankit.registry import Spec
from gankit.regularizers.registry import REGULARIZERS

RegularizerRef: TypeAlias = str | Spec | Regularizer | Constraint


def build_regularizers(
    refs: Mapping[str, RegularizerRef] | Sequence[RegularizerRef],
) -> dict[str, Regularizer | Constraint]:
    """Build regularizers, each under its name in a mapping, its registered name, or the name of its class.

    Args:
        refs: Names in `REGULARIZERS`, `Spec`s or objects.

    Raises:
        UnknownNameError: If no regularizer has a given name.
        BadArgumentsError: If `refs` is a single name.
        BadValueError: If two of them would have the same name.

    Example:
        >>> from gankit.regularizers import R1
        >>> build_regularizers([Spec("r1", weight=1.0)]) == {"r1": R1(weight=1.0)}
        True
    """
    if isinstance(refs, (str, Spec)):
        raise BadArgumentsError(f"regularizers must be a sequence or a mapping by name, got {refs!r}")
    if isinstance(refs, Mapping):
        return {name: _built(ref) for name, ref in refs.items()}
    regularizers: dict[str, Regularizer | Constraint] = {}
    for ref in refs:
        part = _built(ref)
        name = Spec.of(ref).name if isinstance(ref, (str, Spec)) else part_name(part)
        if name in regularizers:
            raise BadValueError(f"regularizers must have different names, got {name!r} twice")
        regularizers[name] = part
    return regularizers


def _built(ref: Any) -> Regularizer | Constraint:
    return REGULARIZERS.build(ref)
