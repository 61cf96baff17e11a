"""`digits_file`: pictures from a file of numbers, such as KMNIST, EMNIST, or your own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gankit.data.array_files import TABLE, read_arrays
from gankit.data.local_files import expand_root
from gankit.data.picture_files import height_and_width
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorData
from gankit.errors import DataError, reason_of


@DATASETS.register("digits_file")
def digits_file(
    root: str | Path,
    *,
    labels: str | Path | None = None,
    train: bool = True,
    size: int | tuple[int, int] | None = None,
    transpose: bool = False,
) -> TensorData:
    r"""Pictures from a file in the IDX, NPZ, NPY or CSV format, such as KMNIST, EMNIST, or your own.

    The content of a file says which format it is in; IDX may be compressed with gzip. Pictures are `(N, H, W)`,
    `(N, H, W, C)`, `(N, C, H, W)`, or rows of `H * W` numbers, after the label in a CSV file. Integers are pixels from
    0 to 255. Pictures keep their size.

    Args:
        root: The file, or a folder with the files of one set, whose names contain "images" or "imgs" and "train", or
            "test" or "t10k".
        labels: The file of the labels, relative to the folder of the pictures. None takes the labels in the file
            itself, or those in the file beside it that has "labels" in its name for "images" or "imgs".
        train: Whether to read the training pictures, such as `x_train`, instead of the test pictures, where there are
            both.
        size: The side of a picture, or its height and width, for rows of numbers. None for squares.
        transpose: Whether to exchange rows and columns, as EMNIST's files need it.

    Raises:
        DataNotFoundError: If there is no such file.
        DataError: If a file cannot be read, or its numbers are no pictures or labels.

    Example:
        >>> _ = Path("own.csv").write_text("label,a,b,c,d\n7,0,50,100,255\n")
        >>> data = digits_file("own.csv")
        >>> data.samples.tolist(), data.labels.tolist()
        ([[[[0, 50], [100, 255]]]], [7])
    """
    sides = None if size is None else height_and_width(size)
    file = expand_root(root, "a file or a folder")
    if file.is_dir():
        file = _only_file(file, train)
    arrays = read_arrays(file)
    split = "train" if train else "test"
    if TABLE in arrays:
        pixels, numbers = _columns(file, arrays[TABLE], sides)
    else:
        names = [f"x_{split}", f"{split}_images", f"{split}_x", "images", "x", "data", "arr_0"]
        pixels = _picked(file, arrays, names)
        numbers = _labels_of(file, arrays, split) if len(arrays) > 1 and labels is None else None
    beside = file.parent / labels if labels is not None else _file_of_labels(file) if numbers is None else None
    if beside is not None:
        found = read_arrays(beside)
        numbers = _labels_of(beside, found, split)
        if numbers is None:
            raise DataError(f"{str(beside)!r} must hold labels, got {', '.join(map(repr, found)) or 'nothing'}")
    samples = _as_samples(file, pixels, sides)
    if transpose:
        samples = samples.transpose(-1, -2).contiguous()
    return TensorData(samples, numbers)


def _only_file(folder: Path, train: bool) -> Path:
    """Return the file of the training or test pictures in a folder."""
    kinds = ["train"] if train else ["test", "t10k"]
    try:
        names = sorted(folder.iterdir(), reverse=True)
    except OSError as error:
        raise DataError(f"root must be readable, got {str(folder)!r}: {reason_of(error)}") from error
    files = {
        one.name.removesuffix(".gz"): one
        for one in names
        if any(word in one.name for word in ("images", "imgs")) and any(kind in one.name for kind in kinds)
    }
    if len(files) != 1:
        raise DataError(
            f"root must be a file, or a folder with one file whose name has images or imgs and {' or '.join(kinds)} in "
            f"it, got {str(folder)!r} with {', '.join(map(repr, sorted(files))) or 'none'}"
        )
    return next(iter(files.values()))


def _file_of_labels(file: Path) -> Path | None:
    """Return the file beside one of pictures that has labels in its name instead, if there is one."""
    name = file.name.replace("images", "labels").replace("imgs", "labels").replace("idx3", "idx1")
    if name == file.name:
        return None
    plain = name.removesuffix(".gz")
    candidates = [file.with_name(one) for one in (name, plain, f"{plain}.gz")]
    return next((one for one in candidates if one.is_file()), None)


def _found(arrays: Mapping[str, Tensor], names: Sequence[str]) -> Tensor | None:
    """Return the only array, or the first one that has one of the names."""
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return next((arrays[name] for name in names if name in arrays), None)


def _picked(file: Path, arrays: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    if (found := _found(arrays, names)) is not None:
        return found
    raise DataError(
        f"{str(file)!r} must hold one of {', '.join(names)}, got {', '.join(map(repr, arrays)) or 'nothing'}"
    )


def _columns(file: Path, table: Tensor, sides: tuple[int, int] | None) -> tuple[Tensor, Tensor | None]:
    """Return the pixels and the labels of a table, whose first column is the label unless all columns are pixels."""
    count = table.shape[1]
    if count == math.prod(sides) if sides else math.isqrt(count) ** 2 == count:
        return table, None
    if count - 1 == math.prod(sides) if sides else math.isqrt(count - 1) ** 2 == count - 1:
        return table[:, 1:], _as_labels(file, table[:, 0])
    wanted = f"{math.prod(sides)}" if sides else "a square number of"
    raise DataError(
        f"{str(file)!r} must have {wanted} pixels in each row, with or without a label before them, got {count} columns"
        + ("" if sides else "; size=[height, width] is for other pictures than squares")
    )


def _as_samples(file: Path, pixels: Tensor, sides: tuple[int, int] | None) -> Tensor:
    """Return pictures `(N, C, H, W)` as bytes, or as floats if they are no integers."""
    if pixels.ndim == 2:
        side = math.isqrt(pixels.shape[1])
        height, width = sides or (side, side)
        if height * width != pixels.shape[1]:
            raise DataError(f"size must fit the {pixels.shape[1]} pixels in a row of {str(file)!r}, got {sides}")
        pixels = pixels.reshape(-1, height, width)
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise DataError(f"{str(file)!r} must hold grey or RGB pictures, got an array of shape {tuple(pixels.shape)}")
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.dtype == torch.uint8 or not pixels.numel():
        return pixels.to(torch.uint8)
    lowest, highest = (float(one) for one in torch.aminmax(pixels))
    if pixels.is_floating_point() and (highest <= 1 or not bool((pixels == pixels.round()).all())):
        return pixels
    if lowest < 0 or highest > 255:
        raise DataError(f"pixels in {str(file)!r} must be from 0 to 255, got {lowest:g} to {highest:g}")
    return pixels.to(torch.uint8)


def _labels_of(file: Path, arrays: Mapping[str, Tensor], split: str) -> Tensor | None:
    names = [f"y_{split}", f"{split}_labels", f"{split}_y", "labels", "y", "targets", "arr_0", TABLE]
    found = _found(arrays, names)
    return None if found is None else _as_labels(file, found)


def _as_labels(file: Path, numbers: Tensor) -> Tensor:
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers.squeeze(1)
    if numbers.ndim != 1 or not bool((numbers == numbers.long()).all()):
        raise DataError(
            f"labels in {str(file)!r} must be one integer per picture, got an array of shape "
            f"{tuple(numbers.shape)} and the type {numbers.dtype}"
        )
    return numbers.long()
