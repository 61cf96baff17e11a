"""`image_folder`: the pictures in a folder of your own, in memory or read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from gankit.data.folder_listing import Listing, list_pictures
from gankit.data.picture_files import Fit, PictureForm, in_words, picture_endings
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorData
from gankit.errors import BadValueError, DataError, DataWarning, warn
from gankit.fingerprints import files_fingerprint

_TRIED = 16  # how many pictures that stay on disk are read once at the start, to find faults that all of them have


class PictureFiles(Dataset[Tensor | tuple[Tensor, int]]):
    """Pictures that stay on disk: each is read when it is needed.

    Args:
        files: The files.
        form: What each picture becomes.
        labels: The number of each picture's class, or None.
        classes: The names of the classes in the order of their numbers, or None.

    Raises:
        DataError: While a sample is read, if its file is no picture or is damaged.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (40, 30), 7).save("a.png")
        >>> pictures = PictureFiles([Path("a.png")], PictureForm(size=28))
        >>> len(pictures), pictures[0].shape, pictures[0].unique()
        (1, torch.Size([1, 28, 28]), tensor([7], dtype=torch.uint8))
    """

    def __init__(
        self,
        files: Sequence[Path],
        form: PictureForm,
        labels: Sequence[int] | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.files: list[Path] = list(files)
        self.form = form
        self._numbers = None if labels is None else tuple(labels)
        self.classes = classes
        self._has_warned = False

    @property
    def labels(self) -> Tensor | None:
        """The number of each picture's class, or None."""
        return None if self._numbers is None else torch.tensor(self._numbers)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.form.sample_shape

    def fingerprint(self) -> dict[str, str | int]:
        """Return the number of files, and hashes of their names, and of their sizes and times."""
        return files_fingerprint(self.files)

    @property
    def content(self) -> tuple[object, ...]:
        """What decides the samples: two folders of the same content yield the same, unless files have changed."""
        return tuple(self.files), self.form, self._numbers

    def __len__(self) -> int:
        return len(self.files)

    @override
    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        pixels, lost_colours, remarks = self.form.read(self.files[index])
        if (lost_colours or remarks) and not self._has_warned:
            self._has_warned = True
            _warn_of_pictures([(self.files[index], remarks)] * bool(remarks), int(lost_colours), 1)
        return pixels if self._numbers is None else (pixels, self._numbers[index])


@overload
def image_folder(
    root: str | Path,
    *,
    size: int | tuple[int, int] = 28,
    channels: Literal[1, 3] = 1,
    fit: Fit = "crop",
    background: str = "white",
    labels: bool | None = None,
    classes: tuple[str, ...] | None = None,
    on_bad_file: Literal["raise", "skip"] = "raise",
    in_memory: Literal[True] = True,
) -> TensorData: ...


@overload
def image_folder(
    root: str | Path,
    *,
    size: int | tuple[int, int] = 28,
    channels: Literal[1, 3] = 1,
    fit: Fit = "crop",
    background: str = "white",
    labels: bool | None = None,
    classes: tuple[str, ...] | None = None,
    on_bad_file: Literal["raise", "skip"] = "raise",
    in_memory: bool,
) -> TensorData | PictureFiles: ...


@DATASETS.register("image_folder")
def image_folder(
    root: str | Path,
    *,
    size: int | tuple[int, int] = 28,
    channels: Literal[1, 3] = 1,
    fit: Fit = "crop",
    background: str = "white",
    labels: bool | None = None,
    classes: tuple[str, ...] | None = None,
    on_bad_file: Literal["raise", "skip"] = "raise",
    in_memory: bool = True,
) -> TensorData | PictureFiles:
    """All pictures in a folder and its subfolders, cropped and resized with antialiasing.

    Links are followed. Names that begin with a dot, and folders such as `__MACOSX`, are passed over. A picture is
    turned as its EXIF orientation says. Of more than 8 bits per channel, the 8 highest are kept.

    Args:
        root: The folder.
        size: The side of a sample in pixels, or its height and width.
        channels: 1 for grey, 3 for RGB.
        fit: What happens to a picture of other proportions. `"crop"` takes the middle of it, `"pad"` adds bars of the
            colour `background`, `"stretch"` changes the proportions.
        background: The colour that is put behind transparent pixels, such as `"black"` or `"#ff8800"`.
        labels: Whether each folder in `root` is a class. None if all pictures are in such folders. Names that are
            numbers are sorted by their values, others by the alphabet.
        classes: The names of the folders that there must be, in the order of their labels. None takes those that there
            are. A run keeps the names in its recipe, so that it is not resumed with others.
        on_bad_file: What happens if a file cannot be read as a picture: an error, or a warning with the names of such
            files, which are left out.
        in_memory: Whether the pictures are kept in memory. Otherwise each is read when it is needed, which takes more
            time and no memory. With `on_bad_file="skip"`, all of them are also read once at the start.

    Returns:
        The pictures as bytes, with labels if there are classes.

    Raises:
        DataNotFoundError: If the folder does not exist.
        DataError: If the folder contains no pictures, a file cannot be read, or the class folders are not as expected.

    Warns:
        DataWarning: If files or folders are left out, colours are lost, or labels are missing because of pictures
            beside the class folders.

    Example:
        >>> image_folder("nowhere")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder of pictures, got 'nowhere', which does not exist
    """
    form = PictureForm(size, channels, fit, background)
    if on_bad_file not in ("raise", "skip"):
        raise BadValueError(f"on_bad_file must be 'raise' or 'skip', got {on_bad_file!r}")
    skips = on_bad_file == "skip"
    listing = list_pictures(root, picture_endings(), labels=labels, classes=classes, skip_unreadable=skips)
    samples = torch.empty(len(listing.files) if in_memory else 0, *form.sample_shape, dtype=torch.uint8)
    to_read = len(listing.files) if in_memory or skips else _TRIED
    kept: list[int] = []
    bad: list[str] = []
    remarks: list[tuple[Path, tuple[str, ...]]] = []
    in_colour = 0
    for number, file in enumerate(listing.files[:to_read]):
        try:
            picture = form.read(file)
        except DataError as error:
            if not skips:
                raise
            bad.append(f"{str(file)!r}: {error.__cause__ and in_words(error.__cause__)}")
            continue
        in_colour += picture.lost_colours
        if picture.remarks:
            remarks.append((file, picture.remarks))
        if in_memory:
            samples[len(kept)] = picture.pixels
        kept.append(number)
    kept += range(to_read, len(listing.files))
    for notice in listing.notices:
        warn(notice, DataWarning)
    _warn_of_missing(root, listing, bad)
    _warn_of_pictures(remarks, in_colour, min(to_read, len(listing.files)) - len(bad))
    if not kept:
        raise DataError(f"root must be a folder of pictures, got {str(root)!r}, in which no file can be read")
    numbers = None if listing.labels is None else [listing.labels[number] for number in kept]
    if not in_memory:
        return PictureFiles([listing.files[number] for number in kept], form, numbers, listing.classes)
    return TensorData(samples[: len(kept)], None if numbers is None else torch.tensor(numbers), listing.classes)


def class_names(root: str | Path) -> tuple[str, ...]:
    """Return the names of the class folders in the order of their labels.

    Raises:
        DataError: If the folder cannot be read or contains no pictures, or a picture lies beside the class folders.

    Example:
        >>> for name in ("10", "9"):
        ...     Path("pictures", name).mkdir(parents=True)
        ...     _ = Path("pictures", name, "a.png").write_bytes(b"")
        >>> class_names("pictures")
        ('9', '10')
    """
    return list_pictures(root, picture_endings(), labels=True, skip_unreadable=True).classes or ()


def _warn_of_missing(root: str | Path, listing: Listing, bad: Sequence[str]) -> None:
    for what, found in (("file", bad), ("folder", listing.unreadable)):
        if found:
            shown = ", ".join([*found[:10], *["..."] * (len(found) > 10)])
            count = f"1 {what}" if len(found) == 1 else f"{len(found)} {what}s"
            are = "is" if len(found) == 1 else "are"
            warn(f"{count} in {str(root)!r} could not be read and {are} left out: {shown}", DataWarning)


def _warn_of_pictures(remarks: Sequence[tuple[Path, tuple[str, ...]]], in_colour: int, count: int) -> None:
    if remarks:
        file, texts = remarks[0]
        warn(f"Pillow warns of {len(remarks)} of {count} pictures, first of {str(file)!r}: {texts[0]}", DataWarning)
    if in_colour:
        warn(
            f"channels=1 makes pictures grey, got {in_colour} of {count} pictures with colours; channels=3 keeps them",
            DataWarning,
        )
