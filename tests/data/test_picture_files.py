"""From a picture's file to pixels: upright, opaque, of 8 bits and one size; other files are refused by name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image, ImageFile

from gankit.data.picture_files import PictureForm, picture_endings
from gankit.errors import BadArgumentsError, BadValueError, DataError
from tests.data.making_pictures import save

FILE = Path("a.png")


def read(file=FILE, size=28, **options):
    return PictureForm(size, **options).read(Path(file)).pixels


def colour_of(pixels):
    """The one colour of all pixels."""
    assert torch.equal(pixels, pixels[:, :1, :1].expand_as(pixels))
    return pixels[:, 0, 0].tolist()


# --- formats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "saved_as"),
    [
        *(
            (one, None)
            for one in ("png", "PNG", "bmp", "tif", "tiff", "gif", "ppm", "pgm", "pnm", "webp", "jpg", "jpeg")
        ),
        *(("jfif", "JPEG"), ("jpe", "JPEG"), ("apng", "PNG"), ("jp2", "JPEG2000"), ("tga", "TGA"), ("qoi", "QOI")),
        ("ico", "ICO"),
    ],
)
def test_files_of_every_known_ending_keep_their_pixels(ending, saved_as):
    mode = "RGB" if ending.lower() in ("qoi", "webp") else "L"
    Image.new("L", (28, 28), 100).convert(mode).save(f"a.{ending}", saved_as)
    assert f".{ending.lower()}" in picture_endings()
    assert colour_of(read(f"a.{ending}")) == [100]


@pytest.mark.skipif(".avif" not in picture_endings(), reason="this Pillow reads no AVIF")
def test_avif_is_read():
    save("a.avif", 100, quality=95)
    assert (read("a.avif").int() - 100).abs().max() <= 2


def test_the_content_counts_and_not_the_ending():
    Image.new("L", (28, 28), 100).save("a.png", "JPEG")
    assert colour_of(read()) == [100]


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "CMYK", "1"])
def test_every_mode_is_converted(mode):
    file = "a.tif" if mode == "CMYK" else "a.png"
    Image.new("RGB", (28, 28), (255, 255, 255)).convert(mode).save(file)
    assert colour_of(read(file, channels=3)) == [255, 255, 255]
    assert colour_of(read(file)) == [255]


@pytest.mark.parametrize(
    "what", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n"], ids=["eps", "pdf"]
)
def test_programs_in_a_picture_are_never_started(monkeypatch, what):
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a program was started"))
    FILE.write_bytes(what * 50)
    with pytest.raises(DataError, match="^every file must be a picture, got 'a.png': it is none of the kinds"):
        read()


# --- orientation -----------------------------------------------------------------------------------------

_UNDOES = [
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_270,
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif"])
def test_a_picture_is_turned_as_its_orientation_says_and_only_once(orientation, file):
    upright = Image.new("L", (16, 8), 0)
    upright.paste(255, (0, 0, 8, 4))
    upright.paste(128, (8, 0, 16, 4))
    undo = _UNDOES[orientation - 1]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {
        "a.jpg": {"quality": 100},
        "a.webp": {"lossless": True},
        "lzw.tif": {"compression": "tiff_lzw"},
    }.get(file, {})
    (upright if undo is None else upright.transpose(undo)).save(file, exif=exif, **options)
    expected = torch.tensor([[255, 128], [0, 0]]).repeat_interleave(4, 0).repeat_interleave(8, 1)
    assert (read(file, (8, 16))[0].int() - expected).abs().max() <= (8 if file == "a.jpg" else 0)


# --- transparency ----------------------------------------------------------------------------------------


def half_clear(mode, red=(255, 0, 0)):
    """A picture with hidden red on the left, which is clear, and blue on the right, which is not."""
    picture = Image.new("RGBA", (28, 28), (*red, 0))
    picture.paste((0, 0, 255, 255), (14, 0, 28, 28))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("background", "colour"), [("white", [255, 255, 255]), ("black", [0, 0, 0]), ("#ff8800", [255, 136, 0])]
)
def test_transparent_pixels_show_the_background_and_no_hidden_colours(background, colour):
    half_clear("RGBA").save("a.png")
    pixels = read(channels=3, background=background)
    assert colour_of(pixels[:, :, :14]) == colour
    assert colour_of(pixels[:, :, 14:]) == [0, 0, 255]


def test_the_background_is_white_by_default_and_mixed_in_where_pixels_are_half_transparent():
    Image.new("LA", (28, 28), (0, 128)).save("a.png")
    assert colour_of(read()) == [127]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_stands_for_transparency_shows_the_background(mode):
    clear, opaque = {"P": (0, 1), "L": (7, 9), "RGB": ((7, 7, 7), (9, 9, 9))}[mode]
    picture = Image.new(mode, (28, 28), clear)
    picture.paste(opaque, (14, 0, 28, 28))
    if mode == "P":
        picture.putpalette([7, 7, 7, 9, 9, 9])
    picture.save("a.png", transparency=clear)
    pixels = read(channels=3)
    assert colour_of(pixels[:, :, :14]) == [255, 255, 255]
    assert colour_of(pixels[:, :, 14:]) == [9, 9, 9]


def test_a_value_of_16_bits_that_stands_for_transparency_is_compared_with_all_its_bits():
    values = torch.tensor([[1000, 1001, 999, 60_000]], dtype=torch.uint16)
    Image.fromarray(values.numpy()).save("a.png", transparency=1000)
    assert read(size=(1, 4))[0, 0].tolist() == [255, 3, 3, 234]


# --- more than 8 bits ------------------------------------------------------------------------------------

VALUES = [0, 255, 256, 1000, 30_000, 65_535]


def png_of_16_bits(values, channels):
    """A PNG of one row with 16 bits per channel, which Pillow does not write for colours."""
    row = b"\0" + b"".join(struct.pack(">H", value) * channels for value in values)
    head = struct.pack(">IIBBBBB", len(values), 1, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("of_file", [1, 3])
def test_of_16_bits_the_highest_8_are_kept_in_grey_and_in_colour(channels, of_file):
    FILE.write_bytes(png_of_16_bits(VALUES, of_file))
    pixels = read(size=(1, len(VALUES)), channels=channels)
    assert pixels[:, 0].tolist() == [[value >> 8 for value in VALUES]] * channels


@pytest.mark.parametrize("file", ["a.tif", "a.pgm"])
def test_other_formats_of_16_bits_follow_the_same_rule(file):
    Image.fromarray(torch.tensor([VALUES], dtype=torch.uint16).numpy()).save(file)
    assert read(file, (1, len(VALUES)))[0, 0].tolist() == [value >> 8 for value in VALUES]


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_numbers_of_32_bits_have_no_known_range(dtype):
    Image.fromarray(torch.ones(8, 8, dtype=dtype).numpy()).save("a.tif")
    with pytest.raises(DataError, match=r"got 'a\.tif': it has the mode [IF], 32-bit numbers whose range is not known"):
        read("a.tif")


# --- proportions -----------------------------------------------------------------------------------------


def stripe():
    picture = Image.new("RGB", (40, 20), (0, 0, 0))
    picture.paste((200, 200, 200), (10, 0, 30, 20))
    picture.save("a.png")


def test_crop_takes_the_middle():
    stripe()
    assert colour_of(read(size=20)) == [200]
    assert read(size=(20, 40))[0, 0].tolist() == [0] * 10 + [200] * 20 + [0] * 10


def test_pad_adds_bars_of_the_background():
    stripe()
    pixels = read(size=40, channels=3, fit="pad", background="red")
    assert colour_of(pixels[:, :10]) == colour_of(pixels[:, 30:]) == [255, 0, 0]
    assert pixels[0, 10].tolist() == [0] * 10 + [200] * 20 + [0] * 10
    assert colour_of(read(size=40, fit="pad")[:, :10]) == [255]


def test_stretch_changes_the_proportions():
    stripe()
    pixels = read(size=20, fit="stretch")[0]
    assert torch.equal(pixels, pixels[:1].expand(20, 20))
    assert pixels[0, [0, 10, 19]].tolist() == [0, 200, 0]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("of_file", [(1, 1), (1, 500), (500, 1), (3, 3)])
def test_tiny_and_long_pictures_fit(of_file, fit):
    save("a.png", 77, size=of_file)
    assert colour_of(read(fit=fit, background="#4d4d4d")) == [77]


# --- colours ---------------------------------------------------------------------------------------------


def test_lost_colours_are_noticed_and_grey_in_three_channels_is_no_loss():
    save("red.png", (255, 0, 0))
    save("grey.jpg", (90, 90, 90))
    save("palette.png", 0, mode="P")
    lost = {
        (name, channels): PictureForm(28, channels).read(Path(name)).lost_colours
        for name in ("red.png", "grey.jpg", "palette.png")
        for channels in (1, 3)
    }
    assert [key for key, value in lost.items() if value] == [("red.png", 1)]


# --- files that are no pictures --------------------------------------------------------------------------


def noise(file):
    Image.effect_noise((64, 64), 50).convert("RGB").save(file)
    return file.read_bytes()


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tif", "bmp", "ppm", "jp2", "tga", "qoi", "ico"])
def test_damaged_files_of_every_format_are_read_or_refused_by_name(ending):
    """Bytes are changed or cut at many places; whatever Pillow raises becomes one error with the file's name."""
    file = Path(f"a.{ending}")
    whole = noise(file)
    generator = torch.Generator().manual_seed(0)
    for trial in range(30):
        content = bytearray(whole)
        for at in torch.randint(min(len(content), 400), (4,), generator=generator).tolist():
            content[at] = int(torch.randint(256, (1,), generator=generator))
        if trial % 3 == 0:
            del content[int(torch.randint(len(content), (1,), generator=generator)) :]
        file.write_bytes(content)
        try:
            assert read(file).shape == (1, 28, 28)
        except DataError as error:
            assert str(error).startswith(f"every file must be a picture, got {str(file)!r}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("kind", [SyntaxError, IndexError, TypeError, struct.error, MemoryError, EOFError, KeyError])
def test_every_kind_of_error_gets_the_name_of_the_file(monkeypatch, kind):
    save("a.png", 100)

    def fail(picture):
        raise kind("broken\ninside")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(DataError, match="^every file must be a picture, got 'a.png': .*broken.*; on_bad_file='skip'"):
        read()


def test_a_picture_with_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save("a.png", 100)
    with pytest.raises(DataError, match=r"got 'a\.png': Image size"):
        read()


def test_a_file_of_a_terabyte_is_refused_at_once():
    with FILE.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(DataError, match=r"got 'a\.png': a\.png must have at most 1073741824 bytes, got"):
        read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in this file system")
def test_pipes_devices_folders_and_broken_links_are_refused_at_once():
    os.mkfifo("pipe.png")
    Path("device.png").symlink_to("/dev/zero")
    Path("folder.png").mkdir()
    Path("broken.png").symlink_to("nowhere")
    for name in ("pipe", "device", "folder"):
        with pytest.raises(DataError, match=f"picture, got '{name}.png': {name}.png is not a file;"):
            read(f"{name}.png")
    with pytest.raises(DataError, match="^every file must be a picture, got 'broken.png': No such file or directory;"):
        read("broken.png")


@pytest.mark.parametrize("ending", ["bmp", "tif", "ppm"])
def test_files_are_not_mapped_into_memory(monkeypatch, ending):
    """Pillow maps these formats, and a mapped file that is shortened ends the process."""
    monkeypatch.setattr("mmap.mmap", lambda *arguments, **options: pytest.fail("a file was mapped"))
    save(f"a.{ending}", 100, size=(64, 64))
    assert colour_of(read(f"a.{ending}")) == [100]


# --- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"size": 0}, BadValueError, "^size must be above 0, got 0$"),
        ({"size": "28"}, BadArgumentsError, "^size must be an integer, got '28'$"),
        ({"size": (28, 0)}, BadValueError, "^size must be above 0, got 0$"),
        ({"size": (1, 2, 3)}, BadValueError, r"^size must be one number, or height and width, got \(1, 2, 3\)$"),
        ({"channels": 2}, DataError, r"^channels must be 1 \(grey\) or 3 \(RGB\), got 2$"),
        ({"fit": "zoom"}, BadValueError, "^fit must be 'crop', 'pad' or 'stretch', got 'zoom'$"),
        ({"background": "nocolour"}, BadValueError, "^background must be a colour such as .* got 'nocolour'$"),
        ({"background": 7}, BadArgumentsError, "^background must be the name of a colour, got 7$"),
    ],
)
def test_impossible_options_are_refused(options, kind, said):
    with pytest.raises(kind, match=said):
        PictureForm(**{"size": 28} | options)
