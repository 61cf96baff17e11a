"""From a picture's file to the pixels of a sample: upright, opaque, with 8 bits per channel, and of one size."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, BadValueError, DataError, MissingExtraError, check_count, reason_of
from gankit.files import read_bytes

Fit = Literal["crop", "pad", "stretch"]

_FORMATS = {
    "PNG": ("png", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "GIF": ("gif",),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "TIFF": ("tif", "tiff"),
    "BMP": ("bmp",),
    "DIB": ("dib",),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "JPEG2000": ("jp2", "j2k", "jpx", "jpf", "jpc", "j2c"),
    "ICO": ("ico",),
    "QOI": ("qoi",),
    "TGA": ("tga", "icb", "vda", "vst"),
}
# Pillow's other formats are rare, or start another program (EPS starts Ghostscript)

_MOST_BYTES = 1 << 30
_LEAST_COLOUR = 16  # by how much channels of a picture that counts as grey may differ, for JPEG's rounding errors


class Picture(NamedTuple):
    """One picture: its pixels as `(channels, height, width)` bytes, and what is to be said about it."""

    pixels: Tensor
    lost_colours: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureForm:
    """What every picture becomes.

    Args:
        size: The height and the width in pixels; one number for both.
        channels: 1 for grey, 3 for RGB.
        fit: What happens to a picture of other proportions: its middle is taken, bars are added, or it is stretched.
        background: The colour of bars and behind transparent pixels, as Pillow writes it: `"white"`, `"#ff8800"`.

    Raises:
        BadArgumentsError: For a value of the wrong type.
        BadValueError: For a size that is not above 0, another `fit`, or an unknown colour.
        DataError: For another number of channels.
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> PictureForm(size=28).sample_shape
        (1, 28, 28)
        >>> PictureForm(size=(48, 64), channels=3).sample_shape
        (3, 48, 64)
    """

    size: int | tuple[int, int]
    channels: int = 1
    fit: Fit = "crop"
    background: str = "white"

    def __post_init__(self) -> None:
        height_and_width(self.size)
        if self.channels not in (1, 3):
            raise DataError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels!r}")
        if self.fit not in ("crop", "pad", "stretch"):
            raise BadValueError(f"fit must be 'crop', 'pad' or 'stretch', got {self.fit!r}")
        if not isinstance(self.background, str):
            raise BadArgumentsError(f"background must be the name of a colour, got {self.background!r}")
        colours = _pillow().ImageColor
        try:
            colours.getrgb(self.background)
        except ValueError:
            raise BadValueError(
                f"background must be a colour such as 'white' or '#ff8800', got {self.background!r}"
            ) from None

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """The shape of one sample: `(channels, height, width)`."""
        return self.channels, *height_and_width(self.size)

    def read(self, file: Path) -> Picture:
        """Read the first frame of a picture.

        It is turned as its EXIF orientation says, and laid over the background where it is transparent. Of more than 8
        bits per channel, the 8 highest are kept.

        Raises:
            DataError: If the file is no picture, is damaged, or is too large.
        """
        try:
            # Pillow maps some files into memory, where a file that is shortened meanwhile would end the process
            content = io.BytesIO(read_bytes(file, _MOST_BYTES))
            with _collected_warnings() as said, _pillow().Image.open(content, formats=_formats_of(file)) as opened:
                pixels, lost_colours = self._formed(opened)
            return Picture(pixels, lost_colours, tuple(" ".join(str(one.message).split()) for one in said))
        except Exception as error:  # Pillow raises errors of any kind for damaged files
            raise DataError(
                f"every file must be a picture, got {str(file)!r}: {in_words(error)}; on_bad_file='skip' leaves such "
                "files out"
            ) from error

    def _formed(self, opened: Any) -> tuple[Tensor, bool]:
        pillow = _pillow()
        image = pillow.Image
        upright = pillow.ImageOps.exif_transpose(opened)  # a TIFF is turned by Pillow when it is loaded, and only once
        picture = self._opaque(_of_8_bits(upright, opened.format))
        if picture.mode not in ("1", "L"):
            picture = picture.convert("RGB")
        lost_colours = self.channels == 1 and picture.mode == "RGB" and _has_colours(picture)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        _, height, width = self.sample_shape
        if self.fit == "crop":
            picture = pillow.ImageOps.fit(picture, (width, height), image.Resampling.LANCZOS)
        elif self.fit == "stretch":
            picture = picture.resize((width, height), image.Resampling.LANCZOS)
        else:
            picture = self._padded(picture)
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return pixels.view(height, width, self.channels).permute(2, 0, 1), lost_colours

    def _opaque(self, picture: Any) -> Any:
        if not (set(picture.getbands()) & {"A", "a"} or "transparency" in picture.info):
            return picture
        image = _pillow().Image
        background = image.new("RGBA", picture.size, (*_pillow().ImageColor.getrgb(self.background)[:3], 255))
        return image.alpha_composite(background, picture.convert("RGBA"))

    def _padded(self, picture: Any) -> Any:
        image, colours = _pillow().Image, _pillow().ImageColor
        _, height, width = self.sample_shape
        scale = min(width / picture.width, height / picture.height)
        inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        padded = image.new(picture.mode, (width, height), colours.getcolor(self.background, picture.mode))
        place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        padded.paste(picture.resize(inner, image.Resampling.LANCZOS), place)
        return padded


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the height and the width that a size names: one number for both, or a pair.

    Raises:
        BadArgumentsError: For something else than numbers.
        BadValueError: For another number of sides, or a side that is not above 0.

    Example:
        >>> height_and_width(28), height_and_width((48, 64))
        ((28, 28), (48, 64))
    """
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise BadValueError(f"size must be one number, or height and width, got {size!r}")
    for side in sides:
        check_count("size", side)
    return sides


@functools.cache
def picture_endings() -> tuple[str, ...]:
    """Return the endings of the files that are read, such as `".png"`, with the formats of this Pillow.

    Example:
        >>> ".jpg" in picture_endings(), ".eps" in picture_endings()
        (True, False)
    """
    return tuple(f".{ending}" for name in _formats() for ending in _FORMATS[name])


@functools.cache
def _formats() -> tuple[str, ...]:
    image = _pillow().Image
    image.init()
    return tuple(name for name in _FORMATS if name in image.OPEN)


@contextlib.contextmanager
def _collected_warnings() -> Generator[list[warnings.WarningMessage]]:
    """Collect what Pillow warns of, so that it can be said together with the name of the file."""
    if threading.current_thread() is not threading.main_thread():  # collecting changes the filters of all threads
        yield []
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


def _formats_of(file: Path) -> list[str]:
    # TGA has no mark by which it is recognized, so that damaged files of other formats could pass for it
    is_tga = file.suffix.lower()[1:] in _FORMATS["TGA"]
    return [name for name in _formats() if name != "TGA" or is_tga]


def _of_8_bits(picture: Any, file_format: str | None) -> Any:
    """Return a grey picture of 16 bits with the highest 8, as Pillow reads colours of 16 bits."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file_format in ("PNG", "PPM", "JPEG2000")):
        values = picture.convert("I")
        high = _linear(values, 1 / 256, 0)
        transparent = picture.info.get("transparency")
        if isinstance(transparent, int):  # opaque is what has a larger or a smaller value
            larger, smaller = (_linear(values, sign, -sign * transparent) for sign in (255, -255))
            high.putalpha(_pillow().ImageChops.lighter(larger, smaller))
        return high
    if picture.mode[0] in "IF":
        raise ValueError(f"it has the mode {picture.mode}, 32-bit numbers whose range is not known")
    return picture


def _linear(values: Any, scale: float, offset: float) -> Any:
    """Return scaled 32-bit values as bytes, cut off at 0 and 255."""

    def scaled(value: Any) -> Any:
        return value * scale + offset

    return values.point(scaled).convert("L")


def _has_colours(picture: Any) -> bool:
    red, green, blue = picture.split()
    difference = _pillow().ImageChops.difference
    return any(difference(one, green).getextrema()[1] > _LEAST_COLOUR for one in (red, blue))


def in_words(error: BaseException) -> str:
    """Return why a file is not read as a picture.

    Example:
        >>> in_words(ValueError("cannot identify image file"))
        'it is none of the kinds that are read, or damaged'
    """
    reason = reason_of(error)
    return "it is none of the kinds that are read, or damaged" if "cannot identify image" in reason else reason


def _pillow() -> Any:
    """Return the modules of Pillow that are needed here, imported when the first picture is read."""
    try:
        from PIL import Image, ImageChops, ImageColor, ImageOps
    except ImportError as error:
        raise MissingExtraError("image_folder needs pillow: pip install pillow") from error
    return SimpleNamespace(Image=Image, ImageChops=ImageChops, ImageColor=ImageColor, ImageOps=ImageOps)
