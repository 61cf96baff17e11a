"""A folder of pictures becomes samples and labels, in memory or read when they are needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gankit import DATASETS, Spec
from gankit.data import PictureFiles, image_folder, make_batches
from gankit.data.picture_files import PictureForm
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    DataNotFoundError,
    DataWarning,
    MissingExtraError,
)
from tests.data.making_pictures import colours, notices, save


def test_grey_pictures_keep_their_pixels():
    save("pictures/a.png", 100)
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


def test_grey_becomes_colour_and_colour_grey_with_a_warning():
    save("pictures/a.png", 100)
    save("pictures/b.png", (255, 0, 0))
    data, said = notices(lambda: image_folder("pictures", channels=3))
    assert (colours(data), said) == ([[100, 100, 100], [255, 0, 0]], [])
    data, said = notices(lambda: image_folder("pictures", channels=1))
    # the luma of pure red (ITU-R 601-2: 299/1000)
    assert colours(data) == [[100], [round(255 * 0.299)]]
    assert said == ["channels=1 makes pictures grey, got 1 of 2 pictures with colours; channels=3 keeps them"]


def test_shrinking_averages():
    stripes = torch.zeros(56, 56, dtype=torch.uint8)
    stripes[:, ::2] = 200
    Path("pictures").mkdir()
    Image.fromarray(stripes.numpy()).save("pictures/a.png")
    inside = image_folder("pictures", size=14).samples[..., 2:-2].float()
    assert (inside - 100).abs().max() <= 2


def test_files_come_in_alphabetical_order():
    for name, colour in [("c.png", 3), ("a.png", 1), ("b.png", 2)]:
        save(f"pictures/{name}", colour)
    data = image_folder("pictures")
    assert colours(data) == [[1], [2], [3]]
    assert data.labels is None


def test_folders_are_labels_in_alphabetical_order():
    for name, colour in [("dogs/a.png", 3), ("cats/b.png", 2), ("cats/a.png", 1), ("eels/deep/down/a.png", 4)]:
        save(f"pictures/{name}", colour)
    data = image_folder("pictures")
    assert colours(data) == [[1], [2], [3], [4]]
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert data.labels.dtype == torch.int64
    assert data.classes == ("cats", "dogs", "eels")


def test_the_options_of_pictures_and_folders_are_passed_on():
    save("pictures/10/a.png", (10, 20, 30), size=(20, 10))
    save("pictures/9/a.png", (0, 0, 0), size=(20, 10))
    data = image_folder("pictures", size=(10, 10), channels=3, fit="pad", background="red", classes=("10", "9"))
    assert data.samples[0, :, [0, 5], 0].T.tolist() == [[255, 0, 0], [10, 20, 30]]
    assert data.labels.tolist() == [0, 1]
    assert image_folder("pictures", labels=False).labels is None


def test_it_is_built_by_name():
    save("pictures/a.png", (10, 20, 30))
    assert DATASETS.build("image_folder", root="pictures", size=8, channels=3).sample_shape == (3, 8, 8)
    assert DATASETS.build(Spec.parse("image_folder:size=[4,8]"), root="pictures", channels=3).sample_shape == (3, 4, 8)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    save("pictures/a.png", 100)
    assert len(image_folder("~/pictures")) == 1


def test_memory_for_the_pictures_is_taken_once(monkeypatch):
    for number in range(3):
        save(f"pictures/{number}.png", number)
    monkeypatch.setattr(torch, "stack", lambda tensors: pytest.fail("all pictures were copied"))
    assert colours(image_folder("pictures")) == [[0], [1], [2]]


# --- files that cannot be read ---------------------------------------------------------------------------


def corrupt(path):
    path.write_bytes(b"no picture at all")


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    Image.effect_noise((28, 28), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("damage", [corrupt, empty, truncated])
def test_a_file_that_cannot_be_used_is_named(damage, in_memory):
    save("pictures/a.png", 100)
    damage(Path("pictures/b.png"))
    with pytest.raises(DataError, match="^every file must be a picture, got ") as refusal:
        image_folder("pictures", in_memory=in_memory)
    assert repr(str(Path("pictures/b.png"))) in str(refusal.value)
    assert str(refusal.value).endswith("; on_bad_file='skip' leaves such files out")


@pytest.mark.parametrize("in_memory", [True, False])
def test_such_files_are_left_out_counted_and_listed_if_asked_for(in_memory):
    for name, colour in [("cats/a", 1), ("cats/c", 3), ("dogs/a", 4)]:
        save(f"pictures/{name}.png", colour)
    corrupt(Path("pictures/cats/b.png"))
    truncated(Path("pictures/dogs/b.png"))
    data, said = notices(lambda: image_folder("pictures", on_bad_file="skip", in_memory=in_memory))
    read = zip(data.samples, data.labels, strict=True) if in_memory else [data[number] for number in range(len(data))]
    assert [(int(pixels[0, 0, 0]), int(label)) for pixels, label in read] == [(1, 0), (3, 0), (4, 1)]
    (text,) = said
    assert text.startswith("2 files in 'pictures' could not be read and are left out: 'pictures")
    assert text.index("b.png': it is none of the kinds") < text.index("b.png': image file is truncated")


def test_only_the_first_of_many_bad_files_are_listed():
    save("pictures/a.png", 1)
    for number in range(15):
        corrupt(Path(f"pictures/b{number}.png"))
    _, (text,) = notices(lambda: image_folder("pictures", on_bad_file="skip"))
    assert text.startswith("15 files in 'pictures' ")
    assert (text.count(".png"), text[-5:]) == (10, ", ...")


def test_a_folder_of_bad_files_alone_is_refused():
    Path("pictures").mkdir()
    corrupt(Path("pictures/a.png"))
    with (
        pytest.warns(DataWarning, match="^1 file in 'pictures' could not be read and is left out"),
        pytest.raises(DataError, match="got 'pictures', in which no file can be read$"),
    ):
        image_folder("pictures", on_bad_file="skip")


def test_what_pillow_warns_of_is_said_once_with_the_name_of_the_file(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    for name in "abc":
        save(f"pictures/{name}.png", 100)
    _, said = notices(lambda: image_folder("pictures"))
    file = str(Path("pictures/a.png"))
    assert [text.partition("Image size")[0] for text in said] == [
        f"Pillow warns of 3 of 3 pictures, first of {file!r}: "
    ]


# --- pictures that stay on disk --------------------------------------------------------------------------


def folder_of_classes():
    for number in range(12):
        save(f"pictures/{number % 3}/{number:02}.png", 10 * number)


def test_pictures_on_disk_are_those_in_memory():
    folder_of_classes()
    kept, read = image_folder("pictures", size=8), image_folder("pictures", size=8, in_memory=False)
    assert isinstance(read, PictureFiles)
    assert (len(read), read.sample_shape, read.classes) == (12, (1, 8, 8), ("0", "1", "2"))
    for number in range(12):
        pixels, label = read[number]
        assert torch.equal(pixels, kept.samples[number])
        assert label == kept.labels[number]


def test_pictures_on_disk_are_read_when_they_are_needed(monkeypatch):
    for number in range(40):
        save(f"pictures/{number:02}.png", number)
    reads = []
    read = PictureForm.read
    monkeypatch.setattr(PictureForm, "read", lambda form, file: reads.append(file.stem) or read(form, file))
    pictures = image_folder("pictures", in_memory=False)
    assert len(reads) == 16  # the first ones, so that faults of all of them are found at the start
    reads.clear()
    assert pictures[20].shape == (1, 28, 28)
    assert reads == ["20"]


def test_colours_that_are_lost_later_are_said_once():
    for number in range(20):
        save(f"pictures/{number:02}.png", number if number < 16 else (255, 0, 0))
    pictures, said = notices(lambda: image_folder("pictures", in_memory=False))
    assert said == []
    _, said = notices(lambda: [pictures[number] for number in (16, 17, 18)])
    assert said == ["channels=1 makes pictures grey, got 1 of 1 pictures with colours; channels=3 keeps them"]


def test_batches_from_the_disk_continue_exactly():
    folder_of_classes()
    pictures = image_folder("pictures", in_memory=False)

    def batches():
        return make_batches(pictures, batch_size=3, seed=5, with_labels=True)

    source = batches()
    epochs = [list(source), list(source)]
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])
    interrupted = batches()
    list(interrupted)
    second = iter(interrupted)
    next(second), next(second)
    resumed = batches()
    resumed.load_state_dict(interrupted.state_dict())
    rest = list(resumed)
    assert len(rest) == 2
    for (real, labels), (expected, numbers) in zip(rest, epochs[1][2:], strict=True):
        assert torch.equal(real, expected)
        assert torch.equal(labels, numbers)


def test_workers_read_them_too():
    folder_of_classes()
    loader = DataLoader(image_folder("pictures", in_memory=False), 4, num_workers=1)
    assert [tuple(pixels.shape) for pixels, _ in loader] == [(4, 1, 28, 28)] * 3


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root", ["nowhere", "", "~nobody_of_that_name/pictures", "x" * 5000], ids=lambda root: root[:9]
)
@pytest.mark.parametrize("spec", [Spec("image_folder"), Spec("mnist", download=False)], ids=str)
def test_what_is_no_folder_is_refused_by_every_data_set(spec, root):
    with pytest.raises(DataNotFoundError):
        DATASETS.build(spec, root=root)


def test_impossible_options_are_refused():
    with pytest.raises(BadValueError, match="^size must be above 0, got 0$"):
        image_folder("nowhere", size=0)
    with pytest.raises(DataError, match=r"^channels must be 1 \(grey\) or 3 \(RGB\), got 2$"):
        image_folder("nowhere", channels=2)
    with pytest.raises(BadValueError, match="^on_bad_file must be 'raise' or 'skip', got 'drop'$"):
        image_folder("nowhere", on_bad_file="drop")
    with pytest.raises(BadArgumentsError, match="'channels' must be one of 1, 3, got 2$"):
        DATASETS.build("image_folder", root="nowhere", channels=2)


def test_without_pillow_it_says_what_to_install(monkeypatch):
    save("pictures/a.png", 100)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="^image_folder needs pillow: pip install pillow$"):
        image_folder("pictures")
