"""`digits_file`: pictures and labels from KMNIST's, EMNIST's and one's own files."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gankit import DATASETS, Spec
from gankit.data import digits_file
from gankit.errors import BadArgumentsError, BadValueError, DataError, DataNotFoundError
from gankit.presets import vanilla_mnist

PIXELS = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4) * 3
NUMBERS = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
EXPECTED = torch.from_numpy(PIXELS.copy()).unsqueeze(1)


def write_idx(file, array, *, compressed=True):
    content = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(gzip.compress(content) if compressed else content)


def assert_read(data, labels=True):
    assert torch.equal(data.samples, EXPECTED)
    assert data.samples.dtype == torch.uint8
    assert (data.labels.tolist() if data.labels is not None else None) == (NUMBERS.tolist() if labels else None)


# --- what people have ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["-ubyte.gz", "-ubyte"])
@pytest.mark.parametrize("name", ["emnist-letters-train-images-idx3", "train-images.idx3", "own-images"])
def test_files_in_mnists_format_find_the_labels_beside_them(name, ending):
    labels = name.replace("images", "labels").replace("idx3", "idx1")
    write_idx(f"{name}{ending}", PIXELS, compressed=ending.endswith("gz"))
    assert_read(digits_file(f"{name}{ending}"), labels=False)
    write_idx(f"{labels}{ending}", NUMBERS, compressed=ending.endswith("gz"))
    assert_read(digits_file(f"{name}{ending}"))


def test_emnists_pictures_are_transposed_if_asked_for():
    write_idx("images", PIXELS.transpose(0, 2, 1))
    assert_read(digits_file("images", transpose=True), labels=False)


def test_a_folder_of_one_set_is_enough():
    for prefix, count in (("train", 5), ("t10k", 2)):
        write_idx(f"KMNIST/raw/{prefix}-images-idx3-ubyte.gz", PIXELS[:count])
        write_idx(f"KMNIST/raw/{prefix}-labels-idx1-ubyte.gz", NUMBERS[:count])
    write_idx("KMNIST/raw/train-images-idx3-ubyte", PIXELS, compressed=False)  # torchvision leaves both there
    assert_read(digits_file("KMNIST/raw"))
    assert len(digits_file("KMNIST/raw", train=False)) == 2


def test_kmnist_comes_as_two_archives():
    np.savez_compressed("kmnist-train-imgs.npz", PIXELS)
    np.savez_compressed("kmnist-train-labels.npz", NUMBERS)
    assert_read(digits_file("kmnist-train-imgs.npz"))


@pytest.mark.parametrize("names", ["x_{} y_{}", "{}_images {}_labels", "images labels"])
@pytest.mark.parametrize("train", [True, False])
def test_one_archive_with_pictures_and_labels(names, train):
    splits = ["train", "test"] if train else ["test", "train"]
    (images, labels), (others, _) = (names.format(split, split).split() for split in splits)
    np.savez("all.npz", **{others: PIXELS[:1], images: PIXELS, labels: NUMBERS[:, None]})
    assert_read(digits_file("all.npz", train=train))


def test_a_file_that_was_unpacked_beside_itself_is_no_file_of_labels():
    for name in ("mine-ubyte", "mine-ubyte.gz"):
        write_idx(name, PIXELS, compressed=name.endswith("gz"))
    for name in ("mine-ubyte", "mine-ubyte.gz"):
        assert_read(digits_file(name), labels=False)


def test_an_archive_without_labels_takes_those_of_another_file_or_none():
    np.savez("two.npz", images=PIXELS, more=PIXELS)
    np.save("numbers.npy", NUMBERS)
    assert_read(digits_file("two.npz"), labels=False)
    assert_read(digits_file("two.npz", labels="numbers.npy"))
    with pytest.raises(DataError, match="two.npz' must hold labels, got 'images', 'more'"):
        digits_file("two.npz", labels="two.npz")


@pytest.mark.parametrize(("size", "error"), [((2, 2, 1), BadValueError), (2.5, BadArgumentsError), (0, BadValueError)])
def test_a_wrong_size_is_refused(size, error):
    with pytest.raises(error, match="^size must be"):
        digits_file("nowhere.csv", size=size)


def test_tables_with_and_without_labels_and_names():
    rows = np.concatenate([NUMBERS[:, None], PIXELS.reshape(5, 16)], 1)
    lines = [",".join(map(str, row)) for row in rows]
    head = ",".join(["label", *(f"pixel{number}" for number in range(16))])
    Path("train.csv").write_text("\n".join([head, *lines]))
    Path("plain.csv").write_text("\n".join(lines))
    Path("test.csv").write_text("\n".join(line.partition(",")[2] for line in lines))
    Path("labels.csv").write_text("label\n" + "\n".join(map(str, NUMBERS)))
    assert_read(digits_file("train.csv"))
    assert_read(digits_file("plain.csv"))
    assert_read(digits_file("test.csv"), labels=False)
    assert_read(digits_file("test.csv", labels="labels.csv"))


def test_labels_are_seen_from_the_folder_of_the_pictures():
    write_idx("data/pixels.idx", PIXELS)
    write_idx("data/numbers.idx", NUMBERS)
    assert_read(digits_file("data/pixels.idx", labels="numbers.idx"))
    assert_read(digits_file("data/pixels.idx", labels=Path("data/numbers.idx").absolute()))


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((2, 3, 5), np.uint8), (1, 3, 5)),
        (np.zeros((2, 3, 5, 3), np.uint8), (3, 3, 5)),
        (np.zeros((2, 3, 5, 1), np.uint8), (1, 3, 5)),
        (np.zeros((2, 3, 5, 6), np.uint8), (3, 5, 6)),
        (np.zeros((2, 9), np.uint8), (1, 3, 3)),
    ],
)
def test_pictures_of_every_layout_get_their_channels_first(array, shape):
    np.save("a.npy", array)
    assert digits_file("a.npy").sample_shape == shape


def test_rows_of_other_pictures_than_squares_need_a_size():
    np.savetxt("a.csv", np.arange(12).reshape(2, 6), fmt="%d", delimiter=",")
    with pytest.raises(DataError, match=r"a square number of pixels .* got 6 columns; size=\[height, width\]"):
        digits_file("a.csv")
    data = DATASETS.build(Spec.parse("digits_file:size=[2,3]"), root="a.csv")
    assert (data.sample_shape, data.labels) == ((1, 2, 3), None)
    data = digits_file("a.csv", size=(1, 5))
    assert (data.sample_shape, data.labels.tolist()) == ((1, 1, 5), [0, 6])


@pytest.mark.parametrize(
    ("array", "dtype", "values"),
    [
        (np.array([0, 255]), torch.uint8, [0, 255]),
        (np.array([0.0, 200.0]), torch.uint8, [0, 200]),
        (np.array([0.25, 0.5]), torch.float32, [0.25, 0.5]),
        (np.array([0.0, 1.0]), torch.float32, [0.0, 1.0]),
        (np.array([-1.0, 0.5]), torch.float32, [-1.0, 0.5]),
        (np.array([True, False]), torch.uint8, [255, 0]),
    ],
)
def test_integers_are_pixels_and_fractions_stay_floats(array, dtype, values):
    np.save("a.npy", array.reshape(2, 1, 1))
    samples = digits_file("a.npy").samples
    assert (samples.dtype, samples.flatten().tolist()) == (dtype, values)


def test_a_preset_trains_on_it_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    write_idx("images", PIXELS)
    preset = vanilla_mnist.replace(sample_shape=(1, 4, 4), data="digits_file")
    real = next(iter(preset.batches(root="images", batch_size=5, device="cpu")))
    assert torch.equal(real.sort(0).values, EXPECTED.float().div(255).sort(0).values)


# --- what cannot be used ---------------------------------------------------------------------------------


def test_several_files_in_a_folder_are_named():
    for name in ("emnist-letters-train-images", "emnist-digits-train-images"):
        write_idx(f"emnist/{name}", PIXELS)
    with pytest.raises(
        DataError, match="got 'emnist' with 'emnist-digits-train-images', 'emnist-letters-train-images'$"
    ):
        digits_file("emnist")
    with pytest.raises(DataError, match="images or imgs and test or t10k in it, got 'emnist' with none$"):
        digits_file("emnist", train=False)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": PIXELS, "b": NUMBERS}, r"must hold one of x_train, .*, got 'a', 'b'$"),
        ({"images": PIXELS, "labels": NUMBERS[:4]}, r"labels must be one per sample, got 4 for 5$"),
        ({"images": PIXELS, "labels": NUMBERS + 0.5}, r"labels in 'a.npz' must be one integer per picture"),
        ({"images": PIXELS, "labels": PIXELS}, r"labels in 'a.npz' must be one integer per picture"),
        ({"images": PIXELS.astype(int) * 4}, r"pixels in 'a.npz' must be from 0 to 255, got 0 to 948$"),
        ({"images": PIXELS.astype(int) - 1}, r"pixels in 'a.npz' must be from 0 to 255, got -1 to 236$"),
        ({"images": NUMBERS}, r"must hold grey or RGB pictures, got an array of shape \(5,\)$"),
        ({"images": PIXELS.reshape(5, 2, 2, 4)}, r"must hold grey or RGB pictures, got an array of shape \(5, 2, 2, 4"),
        ({"images": PIXELS[:, :2, :3].reshape(5, 6)}, r"size must fit the 6 pixels in a row of 'a.npz', got None$"),
    ],
    ids=range(9),
)
def test_arrays_that_are_no_pictures_or_labels_are_refused(arrays, said):
    np.savez("a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        digits_file("a.npz")


@pytest.mark.parametrize("root", ["nowhere", "", "~nobody_of_that_name/x"])
def test_what_is_not_there_is_named(root):
    with pytest.raises(DataNotFoundError):
        digits_file(root)
    write_idx("images", PIXELS)
    with pytest.raises(DataNotFoundError, match="got 'nowhere', which does not exist$"):
        digits_file("images", labels="nowhere")


def test_impossible_sizes_are_refused():
    with pytest.raises(BadValueError, match="^size must be above 0, got 0$"):
        digits_file("nowhere", size=0)
    with pytest.raises(BadArgumentsError, match="^size must be an integer, got 1.5$"):
        digits_file("nowhere", size=(1.5, 2))
