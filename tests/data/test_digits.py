"""The digits that come with gankit, and the files of MNIST and Fashion-MNIST: read, checked, or refused."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import socket
import ssl
import sys
import urllib.error
import warnings
import zlib
from pathlib import Path

import pytest
import torch
import torchvision

from gankit import DATASETS, Spec
from gankit.data import digits
from gankit.errors import BadValueError, DataError, DataNotFoundError, DataWarning, MissingExtraError

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
BOTH = pytest.mark.parametrize("name", FOLDERS)
IMAGES = torch.randint(0, 256, (6, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.tensor([3, 1, 4, 1, 5, 9], dtype=torch.uint8)


def idx(values):
    """The bytes of a file in the IDX format (http://yann.lecun.com/exdb/mnist)."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + bytes(values.flatten().tolist())


class Files:
    """The files of a data set in torchvision's layout, and the digests that they must have."""

    def __init__(self, name, root, monkeypatch):
        self.root = root
        self.folder = root / FOLDERS[name] / "raw"
        self.folder.mkdir(parents=True)
        self._source = {"mnist": digits._MNIST, "fashion_mnist": digits._FASHION_MNIST}[name]
        self._monkeypatch = monkeypatch

    def write(self, file, content, *, compressed=True):
        path = self.folder / (f"{file}.gz" if compressed else file)
        path.write_bytes(gzip.compress(content) if compressed else content)
        return path

    def write_set(self, prefix="train", images=IMAGES, labels=LABELS, *, compressed=True):
        self.write(f"{prefix}-images-idx3-ubyte", idx(images), compressed=compressed)
        self.write(f"{prefix}-labels-idx1-ubyte", idx(labels), compressed=compressed)

    def trust(self):
        """Replace the known digests by those of the present files: of MNIST's content, of Fashion-MNIST's files."""
        for path in self.folder.glob("*-ubyte*"):
            content, name = path.read_bytes(), path.name.removesuffix(".gz")
            if self._source.md5:
                if path.suffix == ".gz":
                    self._monkeypatch.setitem(self._source.md5, name, hashlib.md5(content).hexdigest())
                continue
            try:
                content = gzip.decompress(content) if path.suffix == ".gz" else content
            except (OSError, EOFError, zlib.error):
                continue
            self._monkeypatch.setitem(self._source.sha256, name, hashlib.sha256(content).hexdigest())


@pytest.fixture
def files(name, tmp_path, monkeypatch):
    return Files(name, tmp_path / "root", monkeypatch)


@pytest.fixture
def offline(monkeypatch):
    """Let any attempt to download fail the test."""

    def refuse(*arguments, **options):
        pytest.fail("there was an attempt to download")

    for name in FOLDERS.values():
        monkeypatch.setattr(getattr(torchvision.datasets, name), "__init__", refuse)


# --- the digits inside -----------------------------------------------------------------------------------


def test_mnist_5k_has_500_digits_of_each_class(offline):
    data = DATASETS.build("mnist_5k")
    assert data.samples.shape == (5_000, 1, 28, 28)
    assert data.samples.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert data.labels.bincount().tolist() == [500] * 10


@pytest.mark.parametrize("load", [digits.mnist_5k, digits.mnist_test_2k])
def test_the_digits_inside_look_like_mnist(load):
    data = load()
    mean, deviation = data.samples.float().div(255).mean(), data.samples.float().div(255).std()
    assert float(mean) == pytest.approx(0.1307, abs=0.005)  # the known numbers of the 60,000
    assert float(deviation) == pytest.approx(0.3081, abs=0.005)
    assert (int(data.samples.min()), int(data.samples.max())) == (0, 255)
    ones, zeros = (data.samples[data.labels == digit].float().mean() for digit in (1, 0))
    assert ones < zeros / 2  # a one needs the least ink, a zero the most


def test_no_digit_to_train_on_is_a_test_digit(offline):
    training, test = digits.mnist_5k(), digits.mnist_test_2k()
    assert test.samples.shape == (2_000, 1, 28, 28)
    assert "mnist_test_2k" not in DATASETS.names()
    assert not {row.numpy().tobytes() for row in test.samples} & {row.numpy().tobytes() for row in training.samples}


def test_mnist_5k_needs_no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert len(DATASETS.build("mnist_5k")) == 5_000


def test_two_calls_share_no_memory():
    first = DATASETS.build("mnist_5k")
    first.samples.zero_()
    assert DATASETS.build("mnist_5k").samples.any()


# --- files that are there --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("download", [True, False])
def test_files_are_read_as_they_are_without_a_network(name, files, offline, download):
    files.write_set()
    files.trust()
    data = DATASETS.build(name, root=files.root, download=download)
    assert torch.equal(data.samples, IMAGES.unsqueeze(1))
    assert torch.equal(data.labels, LABELS.long())


@BOTH
def test_training_and_test_files_are_kept_apart(name, files, offline):
    files.write_set("train")
    files.write_set("t10k", IMAGES[:2], LABELS[:2])
    files.trust()
    assert len(DATASETS.build(name, root=str(files.root))) == 6
    assert len(DATASETS.build(name, root=str(files.root), train=False)) == 2


@pytest.mark.parametrize("name", ["mnist"])
def test_decompressed_files_are_read_and_checked(name, files, offline):
    files.write_set(compressed=False)
    files.trust()
    assert torch.equal(DATASETS.build(name, root=files.root).samples, IMAGES.unsqueeze(1))


@pytest.mark.parametrize("name", ["fashion_mnist"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_whose_content_has_no_known_digest_are_used_with_a_warning(name, files, offline, compressed):
    files.write_set(compressed=compressed)
    with pytest.warns(DataWarning, match="ubyte.* is used unchecked, because it is not the file that FashionMNIST's"):
        data = DATASETS.build(name, root=files.root)
    assert torch.equal(data.samples, IMAGES.unsqueeze(1))


LAYOUTS = {
    "torchvision's": "{set}/raw/{name}",
    "without raw": "{set}/{name}",
    "flat": "{name}",
    "with dots": "{dotted}",
    "with dots in torchvision's": "{set}/raw/{dotted}",
    "a folder for each file": "{name}/{name}",
    "raw": "raw/{name}",
}


@BOTH
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_found_where_people_have_them(name, files, offline, layout, compressed):
    files.write_set(compressed=compressed)
    files.trust()
    for file in list(files.folder.iterdir()):
        plain = file.name.removesuffix(".gz")
        parts = {"set": FOLDERS[name], "name": plain, "dotted": plain.replace("-idx", ".idx")}
        ending = ".gz" if compressed and layout != "a folder for each file" else ""
        target = files.root / (LAYOUTS[layout].format(**parts) + ending)
        content = file.read_bytes()
        file.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "fashion_mnist" else "error")
        data = DATASETS.build(name, root=files.root)
    assert torch.equal(data.samples, IMAGES.unsqueeze(1))
    assert torch.equal(data.labels, LABELS.long())


@pytest.mark.parametrize("name", ["mnist"])
def test_files_that_were_compressed_again_are_known_by_their_content(name, files, offline):
    files.write_set()
    files.trust()
    for path in files.folder.iterdir():
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=5))
    assert torch.equal(DATASETS.build(name, root=files.root).samples, IMAGES.unsqueeze(1))


@pytest.mark.parametrize("name", ["mnist"])
def test_a_right_file_beside_a_damaged_one_is_used(name, files, offline):
    files.write_set()
    files.trust()
    content = (files.folder / "train-images-idx3-ubyte.gz").read_bytes()
    (files.folder / "train-images-idx3-ubyte.gz").write_bytes(content[:-20])
    files.write("train-images-idx3-ubyte", gzip.decompress(content), compressed=False)
    assert torch.equal(DATASETS.build(name, root=files.root).samples, IMAGES.unsqueeze(1))


@BOTH
def test_files_that_are_there_need_no_torchvision(name, files, monkeypatch):
    files.write_set()
    files.trust()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert len(DATASETS.build(name, root=files.root)) == 6


@BOTH
def test_the_compressed_file_is_the_one_that_counts(name, files, offline):
    files.write_set()
    files.write("train-images-idx3-ubyte", b"something else", compressed=False)
    files.trust()
    assert torch.equal(DATASETS.build(name, root=files.root).samples, IMAGES.unsqueeze(1))


@BOTH
def test_a_tilde_is_the_home_folder(name, files, offline, monkeypatch):
    monkeypatch.setenv("HOME", str(files.root.parent))
    files.write_set()
    files.trust()
    assert len(DATASETS.build(name, root="~/root", download=False)) == 6


# --- a part of the pictures ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("arguments", "rows"),
    [("", [0, 1, 2, 3, 4, 5]), ("start=0,stop=4", [0, 1, 2, 3]), ("start=4", [4, 5]), ("stop=1", [0])],
)
def test_start_and_stop_choose_pictures_in_the_order_of_the_file(name, files, offline, arguments, rows):
    files.write_set()
    files.trust()
    spec = Spec.parse(f"{name}:{arguments}" if arguments else name)
    for ref in (spec, spec.to_dict()):
        data = DATASETS.build(ref, root=files.root)
        assert torch.equal(data.samples, IMAGES[rows].unsqueeze(1))
        assert torch.equal(data.labels, LABELS[rows].long())


@BOTH
@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"stop": 7}, "^start and stop must be 0 <= start < stop <= 6, the number .*, got start=0 and stop=7$"),
        ({"start": 3, "stop": 3}, "got start=3 and stop=3$"),
        ({"start": 6}, "got start=6 and stop=None$"),
        ({"start": -1}, "^start must be .*, got -1$"),
        ({"stop": 0}, "^stop must be above 0, got 0$"),
        ({"stop": -2}, "^stop must be above 0, got -2$"),
    ],
)
def test_a_part_that_the_set_does_not_have_is_refused(name, files, offline, part, message):
    files.write_set()
    files.trust()
    with pytest.raises(BadValueError, match=message):
        DATASETS.build(name, root=files.root, **part)


# --- files that are wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist"])
@pytest.mark.parametrize("wrong", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("compressed", [True, False])
def test_another_content_is_refused(name, files, offline, wrong, compressed):
    files.write_set(compressed=compressed)
    files.trust()
    content = idx(IMAGES + 1 if "images" in wrong else LABELS + 1)
    path = files.write(wrong, content, compressed=compressed)
    with pytest.raises(
        DataError, match=f"must contain MNIST's {wrong}, with the SHA-256 digest .*; remove it to"
    ) as refusal:
        DATASETS.build(name, root=files.root)
    assert repr(str(path)) in str(refusal.value)
    assert hashlib.sha256(content).hexdigest() in str(refusal.value)
    assert "digits_file" in str(refusal.value)


def cut_compressed(files):
    path = files.write("train-images-idx3-ubyte", idx(IMAGES))
    path.write_bytes(path.read_bytes()[:-100])


def cut_inside(files):
    files.write("train-images-idx3-ubyte", idx(IMAGES)[:-1])


def cut_in_the_head(files):
    files.write("train-images-idx3-ubyte", idx(IMAGES)[:3])


def one_byte_more(files):
    files.write("train-images-idx3-ubyte", idx(IMAGES) + b"x")


def of_floats(files):
    content = bytearray(idx(IMAGES))
    content[2] = 0x0D  # the format's code for float32
    files.write("train-images-idx3-ubyte", bytes(content))


def no_archive(files):
    (files.folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>no such file</html>")


def empty(files):
    (files.folder / "train-images-idx3-ubyte.gz").write_bytes(b"")


def wrong_pixel(files):
    path = files.write("train-images-idx3-ubyte", idx(IMAGES))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def wrong_block(files):
    path = files.write("train-images-idx3-ubyte", idx(IMAGES))
    content = bytearray(path.read_bytes())
    content[10] = 0xFF  # the first byte behind gzip's head: a kind of block there is not
    path.write_bytes(bytes(content))


@BOTH
@pytest.mark.parametrize(
    "damage",
    [
        cut_compressed,
        cut_inside,
        cut_in_the_head,
        one_byte_more,
        of_floats,
        no_archive,
        empty,
        wrong_pixel,
        wrong_block,
    ],
)
def test_a_file_that_cannot_be_read_is_refused_even_with_a_fitting_digest(name, files, offline, damage):
    files.write_set()
    damage(files)
    files.trust()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz' must be a file in the IDX.*; remove it"):
        DATASETS.build(name, root=files.root)


@BOTH
def test_images_and_labels_of_other_numbers_are_refused(name, files, offline):
    files.write_set(labels=LABELS[:-1])
    files.trust()
    with pytest.raises(DataError, match="labels must be one per sample, got 5 for 6"):
        DATASETS.build(name, root=files.root)


# --- files that are not there ----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("missing", [["train-images-idx3-ubyte"], ["train-labels-idx1-ubyte"], []])
def test_without_download_missing_files_are_named_with_the_way_out(name, files, offline, missing):
    if missing:
        files.write_set()
    for file in missing:
        (files.folder / f"{file}.gz").unlink()
    with pytest.raises(DataNotFoundError) as refusal:
        DATASETS.build(name, root=files.root, download=False)
    absent = missing or ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    are, them = ("are", "them") if len(absent) > 1 else ("is", "it")
    assert str(refusal.value) == (
        f"{FOLDERS[name]} was not found in {str(files.root)!r}: {' and '.join(f'{one}.gz' for one in absent)} {are} "
        f"missing; put {them} into {str(files.folder)!r}, set download=True, or use mnist_5k, which comes with gankit"
    )


@BOTH
def test_a_file_as_root_is_refused(name, offline):
    Path("file").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match="^root must be a folder, got 'file', which is a file$"):
        DATASETS.build(name, root="file")


@BOTH
@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried a mirror, got:\nnothing\n"),
        urllib.error.URLError("no such host"),
        ConnectionResetError("the other side hung up"),
        PermissionError("this folder is not yours"),
        http.client.IncompleteRead(b""),
        urllib.error.URLError(ssl.SSLCertVerificationError("certificate verify failed")),
        http.client.InvalidURL("nonnumeric port: 'proxy'"),
        ValueError("unknown url type: 'proxy'"),
        TimeoutError("timed out"),
        EOFError("the file ended before its end"),
    ],
    ids=lambda failure: type(getattr(failure, "reason", failure)).__name__,
)
def test_a_failed_download_is_named_with_the_folder_and_the_way_out(name, files, monkeypatch, failure):
    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr(torchvision.datasets, FOLDERS[name], fail)
    with pytest.raises(DataNotFoundError) as refusal:
        DATASETS.build(name, root=files.root)
    message = str(refusal.value)
    reason = " ".join(str(failure).split())
    assert message.startswith(f"{FOLDERS[name]} was not found in {str(files.root)!r}: train-images-idx3-ubyte.gz and ")
    assert f"are missing and could not be downloaded ({reason}); put them into {str(files.folder)!r} by hand" in message
    assert message.endswith("https_proxy names a proxy, and SSL_CERT_FILE the certificates to trust")
    assert refusal.value.__cause__ is failure


@BOTH
@pytest.mark.parametrize("train", [True, False])
def test_missing_files_are_fetched_by_torchvision(name, files, monkeypatch, train):
    asked = []

    def download(dataset):
        asked.append((dataset.root, dataset.train))
        files.write_set("train" if dataset.train else "t10k")
        files.trust()
        # torchvision leaves the decompressed files beside them
        for prefix in ("train", "t10k"):
            files.write(f"{prefix}-images-idx3-ubyte", idx(IMAGES), compressed=False)
            files.write(f"{prefix}-labels-idx1-ubyte", idx(LABELS), compressed=False)

    monkeypatch.setattr(getattr(torchvision.datasets, FOLDERS[name]), "download", download)
    data = DATASETS.build(name, root=str(files.root), train=train)
    assert [(Path(root), train) for root, train in asked] == [(files.root, train)]
    assert torch.equal(data.samples, IMAGES.unsqueeze(1))


@BOTH
def test_without_torchvision_it_says_what_to_install_or_where_to_put_the_files(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    folder = str(Path("nowhere", FOLDERS[name], "raw"))
    with pytest.raises(MissingExtraError, match="pip install torchvision .*, or use mnist_5k, which comes") as refusal:
        DATASETS.build(name, root="nowhere")
    assert f"or put them into {folder!r} by hand" in str(refusal.value)


@pytest.mark.parametrize("name", ["mnist"])
def test_a_server_that_says_nothing_is_not_waited_for_without_end(name, files, monkeypatch):
    limits = []

    def fetch(*arguments, **options):
        limits.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(torchvision.datasets, FOLDERS[name], fetch)
    with pytest.raises(DataNotFoundError):
        DATASETS.build(name, root=files.root)
    assert (limits, socket.getdefaulttimeout()) == ([60], None)


# --- the real ones ---------------------------------------------------------------------------------------


@pytest.mark.mnist
@pytest.mark.skipif(
    "GANKIT_TEST_DATA" not in os.environ, reason="GANKIT_TEST_DATA names no folder that holds MNIST/raw"
)
@pytest.mark.parametrize(
    ("train", "count", "of_each_class"),
    [
        (True, 60_000, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (False, 10_000, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_the_real_mnist_has_its_known_numbers(offline, train, count, of_each_class):
    data = DATASETS.build("mnist", root=os.environ["GANKIT_TEST_DATA"], train=train, download=False)
    assert data.samples.shape == (count, 1, 28, 28)
    assert data.labels.bincount().tolist() == of_each_class


@pytest.mark.mnist
@pytest.mark.skipif(
    "GANKIT_TEST_DATA" not in os.environ, reason="GANKIT_TEST_DATA names no folder that holds MNIST/raw"
)
@pytest.mark.parametrize(
    ("load", "train", "count"), [(digits.mnist_5k, True, 5_000), (digits.mnist_test_2k, False, 2_000)]
)
def test_the_digits_inside_are_part_of_the_real_mnist(offline, load, train, count):
    whole = DATASETS.build("mnist", root=os.environ["GANKIT_TEST_DATA"], train=train, download=False)
    part = load()

    def labelled(data):
        pixels = data.samples.flatten(1).numpy()
        return [(row.tobytes(), label) for row, label in zip(pixels, data.labels.tolist(), strict=True)]

    digits_of_part = labelled(part)
    assert set(digits_of_part) <= set(labelled(whole))
    assert len(set(digits_of_part)) == count
