"""`image_folder`: the pictures in a folder of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gankit.data.registry import DATASETS
from gankit.data.resident import TensorData
from gankit.errors import DataError, DataNotFoundError, MissingExtraError, check_count

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


@DATASETS.register("image_folder")
def image_folder(root: str | Path, *, size: int = 28, channels: Literal[1, 3] = 1) -> TensorData:
    """All pictures in a folder and its subfolders, cropped to squares and resized, in memory.

    The central square of each picture is scaled to `size` by `size` pixels with antialiasing. If all pictures are in
    subfolders, the label of a picture is the number of its subfolder in alphabetical order.

    Args:
        root: The folder.
        size: The side of a sample, in pixels.
        channels: 1 for grey, 3 for RGB.

    Raises:
        DataNotFoundError: If the folder does not exist.
        DataError: If the folder contains no pictures, or a file is not a picture or has more than 8 bits per channel.

    Example:
        >>> image_folder("nowhere")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder of pictures, got 'nowhere', which does not exist
    """
    check_count("size", size)
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (RGB), got {channels!r}")
    folder = expand_root(root)
    if not folder.is_dir():
        raise DataNotFoundError(f"root must be a folder of pictures, got {str(root)!r}, which does not exist")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(
            f"root must be a folder of pictures ({' '.join(sorted(_SUFFIXES))}), got {str(root)!r}, which has none"
        )
    samples = torch.stack([_read(file, size, channels) for file in files])
    tops = [file.relative_to(folder).parts[0] for file in files]
    classes = {name: number for number, name in enumerate(sorted(set(tops)))}
    in_subfolders = all(len(file.relative_to(folder).parts) > 1 for file in files)
    labels = torch.tensor([classes[top] for top in tops]) if in_subfolders else None
    return TensorData(samples, labels)


def expand_root(root: str | Path) -> Path:
    """Return the path of a folder, with the home folder in place of `~`.

    Raises:
        DataNotFoundError: If no folder can have this name.

    Example:
        >>> expand_root("data").name
        'data'
        >>> expand_root("~nobody_of_that_name/data")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder, got '~nobody_of_that_name/data': Could not determine \
home directory.
    """
    try:
        folder = Path(root).expanduser()
        folder.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataNotFoundError(f"root must be a folder, got {str(root)!r}: {reason}") from None
    return folder


def _read(file: Path, size: int, channels: int) -> Tensor:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("image_folder needs pillow: pip install pillow") from error

    try:
        with Image.open(file) as opened:
            if opened.mode[0] in "IF":  # Pillow would clip 16-bit values at 255
                raise ValueError(f"it has the mode {opened.mode}")
            picture: Any = ImageOps.fit(
                opened.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.LANCZOS
            )
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"every file must be a picture with 8 bits per channel, got {str(file)!r}: {error}") from error
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, channels).permute(2, 0, 1)
