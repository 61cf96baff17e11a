"""What data sets and loaders of other people give: each fault is one sentence, with the number of the sample."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from gankit.errors import BadArgumentsError, DataError, GankitError, ShapeError
from gankit.fingerprints import data_fingerprint

Keys = tuple[str, ...] | None
"""The names of the samples, and of the labels, in batches that are dictionaries; None for other batches."""

_ONE_SIZE = "image_folder's size and fit, or torchvision's resize, center_crop and pad, give pictures one size"
MAKE_TENSORS = "a transform such as torchvision's ToTensor turns pictures into tensors"


def checked_keys(keys: object) -> Keys:
    """Return the names of a dictionary's entries that hold the samples and the labels.

    Raises:
        BadArgumentsError: If they are not one or two names.

    Example:
        >>> checked_keys("image"), checked_keys(["image", "label"])
        (('image',), ('image', 'label'))
    """
    if keys is None or isinstance(keys, str):
        return None if keys is None else (keys,)
    names = tuple(cast("Sequence[object]", keys)) if isinstance(keys, (list, tuple)) else ()
    if len(names) not in (1, 2) or not all(isinstance(one, str) for one in names):
        raise BadArgumentsError(
            f"keys must name the samples, or the samples and the labels, such as ('image', 'label'), got {keys!r}"
        )
    return cast("tuple[str, ...]", names)


def parts_of(batch: object, keys: Keys, what: str = "a batch") -> list[Any]:
    """Return the samples of a batch, and its labels if there are any; or those of one sample of a data set.

    Raises:
        DataError: If a dictionary does not have the entries of these names, or the names are missing.

    Example:
        >>> parts_of({"image": 1, "label": 2}, ("image", "label")), parts_of((1, 2), None), parts_of(1, None)
        ([1, 2], [1, 2], [1])
    """
    if isinstance(batch, Mapping):
        entries = cast("Mapping[object, Any]", batch)
        if keys is None:
            raise DataError(
                f"{what} is a dictionary, whose entries are {list(entries)}; name the samples and the labels to "
                'Preset.batches, such as keys=("image", "label")'
            )
        for name in keys:
            if name not in entries:
                raise DataError(f"keys must name entries of {what}, which are {list(entries)}, got {name!r}")
        return [entries[name] for name in keys]
    if keys is not None:
        raise DataError(f"keys={keys} is for batches that are dictionaries, but {what} is a {type(batch).__name__}")
    return [*cast("Sequence[Any]", batch)] if isinstance(batch, (list, tuple)) else [batch]


def shape_hint(wanted: tuple[int, ...], got: tuple[int, ...]) -> str:
    """Return what to do about samples of another shape, or an empty string.

    Example:
        >>> shape_hint((1, 28, 28), (28, 28, 1))
        '; .permute puts the channels first'
        >>> shape_hint((3, 32, 32), (3, 48, 64))
        "; image_folder's size and fit, or torchvision's resize, center_crop and pad, give pictures one size"
    """
    if wanted == got or len(wanted) != 3:
        return ""
    if got == (*wanted[1:], wanted[0]):
        return "; .permute puts the channels first"
    if len(got) != 3:
        is_flat = math.prod(got) == math.prod(wanted)
        return f"; .reshape(-1, {', '.join(map(str, wanted))}) adds what is missing" if is_flat else ""
    if got[0] == wanted[0]:
        return f"; {_ONE_SIZE}"
    return "; torchvision's Grayscale changes the number of channels" if got[1:] == wanted[1:] else ""


def as_labels(labels: object) -> Tensor:
    """Return labels as a tensor, from a tensor, an array or a sequence of integers.

    Raises:
        DataError: If they are something else.

    Example:
        >>> as_labels([3, 1])
        tensor([3, 1])
        >>> as_labels(["cat", "dog"])
        Traceback (most recent call last):
        gankit.errors.DataError: labels must be integers, one per sample, got 'cat' for sample 0
    """
    if isinstance(labels, Tensor):
        return labels
    given: Any = labels
    if isinstance(given, (list, tuple, range)):
        for index, one in enumerate(cast("Sequence[object]", given)):
            if not hasattr(one, "__index__"):
                raise DataError(f"labels must be integers, one per sample, got {one!r} for sample {index}")
    try:
        return torch.as_tensor(cast(Any, given))
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(labels).__name__
        raise DataError(f"labels must be integers, one per sample, got a {kind}") from error


def check_labels(labels: object, num_classes: int | None, where: str = "") -> None:
    """Raise `DataError` unless all labels are integers from 0 to `num_classes - 1`.

    Args:
        labels: The labels, one per sample.
        num_classes: The number of classes. None for any labels.
        where: What follows the number of a sample in the message, such as " of the batch".

    Example:
        >>> check_labels(torch.tensor([0, 9, 10]), 10)
        Traceback (most recent call last):
        gankit.errors.DataError: labels must be from 0 to 9 for num_classes=10, got 0 to 10, first 10 for \
sample 2
    """
    if num_classes is None:
        return
    if not isinstance(labels, Tensor):
        raise DataError(f"labels must be a tensor of integers, got a {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex():
        first = f", {labels.flatten()[0].item()} for sample 0{where}" if labels.numel() else ""
        raise DataError(f"labels must be integers, got {labels.dtype}{first}")
    is_wrong = (labels < 0) | (labels >= num_classes)
    if bool(is_wrong.any()):
        number = int(is_wrong.flatten().nonzero()[0])
        sample = number * len(labels) // labels.numel() if labels.ndim else 0
        raise DataError(
            f"labels must be from 0 to {num_classes - 1} for num_classes={num_classes}, got {int(labels.min())} to "
            f"{int(labels.max())}, first {int(labels.flatten()[number])} for sample {sample}{where}"
        )


class CheckedDataset(Dataset[Any]):
    """A data set whose samples are checked as they are read, so that an error names the number of the sample.

    Args:
        dataset: The data set, with a length and an item for each number.
        sample_shape: The required shape of one sample. None for that of the sample that is read first.
        num_classes: The number of classes of the labels. None if labels are not used.
        keys: The names of samples and labels, if an item is a dictionary.

    Raises:
        DataError: While a sample is read, if it is no tensor or array, or its label is none of the classes.
        ShapeError: While a sample is read, if it has another shape.

    Example:
        >>> CheckedDataset([torch.zeros(1, 28, 28), None])[1]
        Traceback (most recent call last):
        gankit.errors.DataError: sample 1 of the data set must be a tensor or an array, got NoneType
    """

    def __init__(
        self,
        dataset: Any,
        *,
        sample_shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        keys: Keys = None,
    ) -> None:
        self.dataset = dataset
        self._sample_shape = sample_shape
        self._num_classes = num_classes
        self._keys = keys

    def __len__(self) -> int:
        return len(self.dataset)

    def fingerprint(self) -> dict[str, str | int]:
        """Return what is known about the data set; see `gankit.fingerprints`."""
        return data_fingerprint(self.dataset) or {"number of samples": len(self)}

    @override
    def __getitem__(self, index: int) -> Any:
        return self._checked(index, self.dataset[index])

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return several samples at once, as the data set does if it can."""
        fetch = getattr(self.dataset, "__getitems__", None)
        items = [self.dataset[one] for one in indices] if fetch is None else fetch(indices)
        return [self._checked(index, item) for index, item in zip(indices, items, strict=True)]

    def _checked(self, index: int, item: Any) -> Any:
        what = f"sample {index} of the data set"
        sample, *labels = parts_of(item, self._keys, what)
        if not hasattr(sample, "shape") or not hasattr(sample, "dtype"):
            hint = f"; {MAKE_TENSORS}" if type(sample).__module__.startswith("PIL.") else ""
            raise DataError(f"{what} must be a tensor or an array, got {type(sample).__name__}{hint}")
        shape = tuple(sample.shape)
        if self._sample_shape is None:
            self._sample_shape = shape
        if shape != self._sample_shape:
            raise ShapeError(
                f"{what} must have the shape {self._sample_shape}, got {shape}{shape_hint(self._sample_shape, shape)}"
            )
        if self._num_classes is not None and labels:
            _check_label(labels[0], self._num_classes, what)
        return item


def _check_label(label: Any, num_classes: int, what: str) -> None:
    value = label.item() if hasattr(label, "item") and getattr(label, "shape", None) in ((), (1,)) else label
    if not isinstance(value, int) and not isinstance(label, Tensor):
        raise DataError(f"the label of {what} must be an integer, got {value!r}")
    if isinstance(value, int) and not 0 <= value < num_classes:
        raise DataError(
            f"the label of {what} must be from 0 to {num_classes - 1} for num_classes={num_classes}, got {value}"
        )


# --- loaders of other people ---------------------------------------------------------------------------------


def explained(batches: Iterable[Any], first: int = 0) -> Iterator[Any]:
    """Yield the batches; raise an error of one sentence if a `DataLoader` cannot put the samples of one together.

    Args:
        batches: An iteration over a loader.
        first: The number of the first batch.

    Raises:
        DataError: If a sample is no tensor, array or number.
        ShapeError: If the samples of a batch have different shapes.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> list(explained(DataLoader([torch.zeros(2), torch.zeros(3)], 2)))
        Traceback (most recent call last):
        gankit.errors.ShapeError: the samples of batch 0 must have one shape, got [2] and [3]; image_folder's size and \
fit, or torchvision's resize, center_crop and pad, give pictures one size
    """
    iterator, number = iter(batches), first
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except (AttributeError, TypeError, RuntimeError) as error:
            explanation = None if isinstance(error, GankitError) else _collating_error(str(error), number)
            if explanation is None:
                raise
            raise explanation from error
        yield batch
        number += 1


def _collating_error(message: str, number: int) -> GankitError | None:
    """Return the error for what torch says about a batch that it cannot put together, or None."""
    odd = re.search(
        r"numpy arrays, numbers, dicts or lists; found <class '(\S+)'>|expected Tensor as element .* but got (\S+)|"
        r"'(\S+)' object has no attribute 'numel'",  # in workers, which stack in shared memory
        message,
    )
    if odd is not None:
        kind = odd[1] or odd[2] or odd[3]
        return DataError(
            f"the samples of batch {number} must be tensors, arrays or numbers, got {kind}; {MAKE_TENSORS}"
        )
    _, found, rest = message.partition("stack expects each tensor to be equal size, but got ")
    if found:
        first, _, second = rest.strip().splitlines()[0].partition(" at entry 0 and ")
        return ShapeError(
            f"the samples of batch {number} must have one shape, got {first} and {second.partition(' at entry')[0]}; "
            f"{_ONE_SIZE}"
        )
    if "Trying to resize storage that is not resizable" in message:  # from workers
        return ShapeError(f"the samples of batch {number} must have one shape; {_ONE_SIZE}")
    return None
