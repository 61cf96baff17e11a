"""What a preset adds to a folder of pictures: the shape of its samples, and whether it needs labels."""

from __future__ import annotations

from typing import Any, cast

from gankit.errors import DataWarning, ShapeError, warn
from gankit.spec import Spec


def in_shape(data: Spec, sample_shape: tuple[int, ...], *, with_labels: bool) -> Spec:
    """Return a data set that yields samples of this shape if it is a folder of pictures, and others unchanged.

    Raises:
        ShapeError: If the data set has arguments by which its samples get another shape.

    Example:
        >>> in_shape(Spec("image_folder", root="pictures"), (3, 32, 64), with_labels=False)
        Spec('image_folder', root='pictures', size=(32, 64), channels=3, labels=False)
        >>> in_shape(Spec("image_folder", channels=3), (1, 28, 28), with_labels=False)
        Traceback (most recent call last):
        gankit.errors.ShapeError: image_folder must yield samples of the preset's shape (1, 28, 28), got size and \
channels for (3, 28, 28); leave both out, or change sample_shape
        >>> in_shape(Spec("mnist"), (1, 28, 28), with_labels=False)
        Spec('mnist')
    """
    if data.name != "image_folder":
        return data
    if len(sample_shape) == 3 and sample_shape[0] in (1, 3):
        size: Any = data.arguments.get("size", sample_shape[1:])
        sides = cast("tuple[Any, ...]", size) if isinstance(size, tuple) else (size, size)
        shape = (data.arguments.get("channels", sample_shape[0]), *sides)
        if shape != sample_shape and all(isinstance(one, int) for one in shape):
            raise ShapeError(
                f"image_folder must yield samples of the preset's shape {sample_shape}, got size and channels for "
                f"{shape}; leave both out, or change sample_shape"
            )
        data = data.with_defaults(size=sample_shape[1:], channels=sample_shape[0])
    return data.with_defaults(labels=with_labels)


def warn_of_absent_classes(classes: tuple[str, ...] | None, num_classes: int | None) -> None:
    """Warn if a model has more classes than there are class folders.

    Example:
        >>> warn_of_absent_classes(("cats", "dogs"), 2)
    """
    if classes is not None and num_classes is not None and len(classes) < num_classes:
        warn(
            f"num_classes is {num_classes}, but there are {len(classes)} class folders, so that no sample has a label "
            f"above {len(classes) - 1}",
            DataWarning,
        )
