"""A folder of pictures becomes samples and labels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit import DATASETS, Spec
from gankit.data import image_folder
from gankit.errors import BadArgumentsError, BadValueError, DataError, DataNotFoundError, MissingExtraError


def save(path, colour, *, size=(28, 28), mode=None):
    """Write a picture of one colour."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = mode or ("L" if isinstance(colour, int) else "RGB")
    Image.new(mode, size, colour).save(path)


def colours(data):
    """The colour of each sample, one value per channel."""
    assert torch.equal(data.samples, data.samples[:, :, :1, :1].expand_as(data.samples))
    return data.samples[:, :, 0, 0].tolist()


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "gif", "ppm", "webp", "jpg"])
def test_grey_pictures_of_every_format_keep_their_pixels(suffix):
    save(f"pictures/a.{suffix}", 100)
    data = image_folder("pictures")
    assert data.samples.shape == (1, 1, 28, 28)
    assert data.samples.dtype == torch.uint8
    assert colours(data) == [[100]]


def test_pixels_are_in_their_places():
    pixels = torch.arange(64, dtype=torch.uint8).reshape(8, 8) * 4
    Path("pictures").mkdir()
    Image.fromarray(pixels.numpy()).save("pictures/a.png")
    assert torch.equal(image_folder("pictures", size=8).samples, pixels.reshape(1, 1, 8, 8))


def test_colours_are_three_channels_in_the_order_red_green_blue():
    save("pictures/a.png", (10, 20, 30))
    data = image_folder("pictures", channels=3)
    assert data.samples.shape == (1, 3, 28, 28)
    assert colours(data) == [[10, 20, 30]]


def test_grey_becomes_colour_and_colour_grey():
    save("pictures/a.png", 100)
    save("pictures/b.png", (255, 0, 0))
    assert colours(image_folder("pictures", channels=3)) == [[100, 100, 100], [255, 0, 0]]
    # the luma of pure red (ITU-R 601-2: 299/1000)
    assert colours(image_folder("pictures", channels=1)) == [[100], [round(255 * 0.299)]]


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "CMYK", "1"])
def test_pictures_of_other_modes_are_converted(mode):
    path = Path("pictures") / ("a.tif" if mode == "CMYK" else "a.png")
    path.parent.mkdir()
    Image.new("RGB", (28, 28), (255, 255, 255)).convert(mode).save(path)
    assert colours(image_folder("pictures", channels=3)) == [[255, 255, 255]]


@pytest.mark.parametrize("size", [7, 28, 56])
@pytest.mark.parametrize("of_file", [(28, 28), (40, 20), (20, 40), (1, 1), (300, 200)])
def test_pictures_of_any_size_become_squares(size, of_file):
    save("pictures/a.png", 77, size=of_file)
    data = image_folder("pictures", size=size)
    assert data.samples.shape == (1, 1, size, size)
    assert colours(data) == [[77]]


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_square_is_what_is_kept(upright):
    picture = Image.new("L", (40, 20), 0)
    picture.paste(200, (10, 0, 30, 20))
    Path("pictures").mkdir()
    (picture.transpose(Image.Transpose.ROTATE_90) if upright else picture).save("pictures/a.png")
    assert (image_folder("pictures", size=20).samples == 200).all()


def test_shrinking_averages():
    stripes = torch.zeros(56, 56, dtype=torch.uint8)
    stripes[:, ::2] = 200
    Path("pictures").mkdir()
    Image.fromarray(stripes.numpy()).save("pictures/a.png")
    inside = image_folder("pictures", size=14).samples[..., 2:-2].float()
    assert (inside - 100).abs().max() <= 2


def test_files_come_in_alphabetical_order_and_others_are_passed_over():
    for name, colour in [("c.png", 3), ("a.png", 1), ("b.png", 2)]:
        save(f"pictures/{name}", colour)
    Path("pictures/notes.txt").write_text("no picture")
    Path("pictures/README").write_text("no picture")
    data = image_folder("pictures")
    assert colours(data) == [[1], [2], [3]]
    assert data.labels is None


def test_subfolders_are_labels_in_alphabetical_order():
    for name, colour in [("dogs/a.png", 3), ("cats/b.png", 2), ("cats/a.png", 1), ("eels/deep/down/a.png", 4)]:
        save(f"pictures/{name}", colour)
    Path("pictures/empty").mkdir()
    data = image_folder("pictures")
    assert colours(data) == [[1], [2], [3], [4]]
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert data.labels.dtype == torch.int64


def test_pictures_beside_subfolders_take_the_labels_away():
    save("pictures/cats/a.png", 1)
    save("pictures/b.png", 2)
    assert image_folder("pictures").labels is None


def test_it_is_built_by_name():
    save("pictures/a.png", (10, 20, 30))
    assert DATASETS.build("image_folder", root="pictures", size=8, channels=3).sample_shape == (3, 8, 8)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    save("pictures/a.png", 100)
    assert len(image_folder("~/pictures")) == 1


# --- refusals --------------------------------------------------------------------------------------------


def corrupt(path):
    path.write_bytes(b"no picture at all")


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    Image.effect_noise((28, 28), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def sixteen_bits(path):
    Image.fromarray(torch.full((28, 28), 1000, dtype=torch.uint16).numpy()).save(path)


@pytest.mark.parametrize("damage", [corrupt, empty, truncated, sixteen_bits])
def test_a_file_that_cannot_be_used_is_named(damage):
    save("pictures/a.png", 100)
    damage(Path("pictures/b.png"))
    with pytest.raises(DataError, match="^every file must be a picture with 8 bits per channel, got ") as refusal:
        image_folder("pictures")
    assert repr(str(Path("pictures/b.png"))) in str(refusal.value)


def test_a_picture_too_large_to_be_one_is_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save("pictures/a.png", 100)
    with pytest.raises(DataError, match=r"got 'pictures.a\.png': Image size"):
        image_folder("pictures")


def test_a_folder_without_pictures_is_refused():
    Path("pictures").mkdir()
    Path("pictures/notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"a folder of pictures \(.*\.png .*\), got 'pictures', which has none$"):
        image_folder("pictures")


@pytest.mark.parametrize("root", ["nowhere", "file.png"])
def test_what_is_no_folder_is_refused(root):
    Path("file.png").write_bytes(b"")
    with pytest.raises(
        DataNotFoundError, match=f"^root must be a folder of pictures, got '{root}', which does not exist$"
    ):
        image_folder(root)


@pytest.mark.parametrize("root", ["~nobody_of_that_name/pictures", "x" * 5000], ids=["no home", "too long"])
def test_a_name_that_no_folder_can_have_is_refused(root):
    for data in (Spec("image_folder", root=root), Spec("mnist", root=root, download=False)):
        with pytest.raises(DataNotFoundError, match="^root must be a folder, got "):
            DATASETS.build(data)


def test_impossible_sizes_and_channels_are_refused():
    with pytest.raises(BadValueError, match="^size must be above 0, got 0$"):
        image_folder("nowhere", size=0)
    with pytest.raises(DataError, match=r"^channels must be 1 \(grey\) or 3 \(RGB\), got 2$"):
        image_folder("nowhere", channels=2)
    with pytest.raises(BadArgumentsError, match="'channels' must be one of 1, 3, got 2$"):
        DATASETS.build("image_folder", root="nowhere", channels=2)


def test_without_pillow_it_says_what_to_install(monkeypatch):
    save("pictures/a.png", 100)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="^image_folder needs pillow: pip install pillow$"):
        image_folder("pictures")
