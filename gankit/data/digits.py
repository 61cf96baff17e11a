"""`mnist_5k`, `mnist` and `fashion_mnist`, which share one file format."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import importlib.resources
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gankit.data.idx import read_idx
from gankit.data.local_files import expand_root
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorData
from gankit.errors import (
    BadValueError,
    DataError,
    DataNotFoundError,
    DataWarning,
    MissingExtraError,
    check_count,
    reason_of,
    warn,
)
from gankit.files import limited_silence, open_file


@dataclass(frozen=True)
class _Source:
    """A set of files, and how they are recognized.

    Args:
        name: The name of the set, and of its class and folder in torchvision.
        sha256: The digests of the decompressed files, as far as they are known.
        md5: The digests of the files as they are distributed, compressed.
    """

    name: str
    sha256: dict[str, str]
    md5: dict[str, str]


_MNIST = _Source(
    "MNIST",
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    md5={},
)
_FASHION_MNIST = _Source(
    "FashionMNIST",
    sha256={},
    md5={
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


@DATASETS.register("mnist_5k")
def mnist_5k() -> TensorData:
    """5,000 MNIST training digits, 500 per class, included in gankit (LeCun et al. 1998).

    They need neither a network connection nor another package. The NOTICE in the same folder names the authors and the
    licence.

    Example:
        >>> data = mnist_5k()
        >>> data.samples.shape, data.labels.bincount().tolist()
        (torch.Size([5000, 1, 28, 28]), [500, 500, 500, 500, 500, 500, 500, 500, 500, 500])
    """
    return _included("mnist_5k")


def mnist_test_2k() -> TensorData:
    """2,000 random MNIST test digits, included in gankit for evaluation (LeCun et al. 1998).

    No model may be trained on them, so they are not in `DATASETS`. The NOTICE in the same folder names the authors and
    the licence.

    Example:
        >>> data = mnist_test_2k()
        >>> data.samples.shape, data.labels.bincount().min().item()
        (torch.Size([2000, 1, 28, 28]), 180)
    """
    return _included("mnist_test_2k")


def _included(name: str) -> TensorData:
    folder = importlib.resources.files("gankit.data") / name
    tensors: list[Tensor] = []
    for file in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
        with (folder / file).open("rb") as opened:
            tensors.append(read_idx(opened, file).values)
    return TensorData(tensors[0].unsqueeze(1), tensors[1].long())


@DATASETS.register("mnist")
def mnist(
    root: str | Path = "data", *, train: bool = True, download: bool = True, start: int = 0, stop: int | None = None
) -> TensorData:
    """MNIST: 60,000 training and 10,000 test digits (LeCun et al. 1998).

    Existing files are used without a network connection, whether they are compressed or not, after a check of their
    content. They are looked for in `MNIST/raw` (torchvision's layout), `MNIST`, `raw` and `root` itself, also with a
    dot in their names: `train-images.idx3-ubyte`. The usual division holds out the last 10,000 training digits for
    validation: `start=0, stop=50_000` are those to train on, and `start=50_000` the others.

    Args:
        root: The folder that contains the files, or will contain them in `MNIST/raw`.
        train: Whether to read the training digits instead of the test digits.
        download: Whether torchvision should download missing files.
        start: The number of the first picture, in the order of the file.
        stop: The number behind the last picture. None reads to the end.

    Raises:
        DataNotFoundError: If files are missing and cannot, or must not, be downloaded.
        DataError: If a file has another content than MNIST's.
        BadValueError: If there are no pictures from `start` to `stop`.

    Example:
        >>> mnist("nowhere", download=False)
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: MNIST was not found in 'nowhere': train-images-idx3-ubyte.gz and \
train-labels-idx1-ubyte.gz are missing; put them into 'nowhere/MNIST/raw', set download=True, or use mnist_5k, which \
comes with gankit
    """
    return _read_set(_MNIST, root, train, download, start, stop)


@DATASETS.register("fashion_mnist")
def fashion_mnist(
    root: str | Path = "data", *, train: bool = True, download: bool = True, start: int = 0, stop: int | None = None
) -> TensorData:
    """Fashion-MNIST: clothes in MNIST's format (Xiao et al. 2017).

    Existing files are used without a network connection. They are looked for as those of `mnist` are, in `FashionMNIST`
    instead of `MNIST`. Only the digests of the files as they are distributed are known, so that others are used with a
    warning.

    Args:
        root: The folder that contains the files, or will contain them in `FashionMNIST/raw`.
        train: Whether to read the training pictures instead of the test pictures.
        download: Whether torchvision should download missing files.
        start: The number of the first picture, in the order of the file.
        stop: The number behind the last picture. None reads to the end.

    Raises:
        DataNotFoundError: If files are missing and cannot, or must not, be downloaded.
        DataError: If a file is incomplete or in another format.
        BadValueError: If there are no pictures from `start` to `stop`.

    Example:
        >>> fashion_mnist("nowhere", download=False)
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: FashionMNIST was not found in 'nowhere': train-images-idx3-ubyte.gz and \
train-labels-idx1-ubyte.gz are missing; put them into 'nowhere/FashionMNIST/raw', set download=True, or use mnist_5k, \
which comes with gankit
    """
    return _read_set(_FASHION_MNIST, root, train, download, start, stop)


def _read_set(
    source: _Source, root: str | Path, train: bool, download: bool, start: int, stop: int | None
) -> TensorData:
    check_count("start", start, zero=True)
    if stop is not None:
        check_count("stop", stop)
    folder = expand_root(root)
    if folder.exists() and not folder.is_dir():
        raise DataNotFoundError(f"root must be a folder, got {str(root)!r}, which is a file")
    prefix = "train" if train else "t10k"
    images, labels = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    missing = [name for name in (images, labels) if not _candidates(folder, source.name, name)]
    if missing:
        _fetch(source, folder, train, missing, download)
    samples, numbers = _read(source, folder, images, 3), _read(source, folder, labels, 1)
    if not start < (len(samples) if stop is None else stop) <= len(samples):
        raise BadValueError(
            f"start and stop must be 0 <= start < stop <= {len(samples)}, the number of pictures in {images}, got "
            f"start={start} and stop={stop}"
        )
    data = TensorData(samples.unsqueeze(1), numbers.long())  # whole, so that a picture without a label is an error
    return TensorData(data.samples[start:stop], None if data.labels is None else data.labels[start:stop])


def _candidates(root: Path, set_name: str, name: str) -> list[Path]:
    """Return the files that may be the one of this name, the most probable first."""
    folders = [root / set_name / "raw", root / set_name, root / "raw", root]
    dotted = name.replace("-idx", ".idx")
    spellings = [f"{name}.gz", name, f"{dotted}.gz", dotted, f"{name}/{name}", f"{dotted}/{dotted}"]
    return [file for folder in folders for spelling in spellings if _is_file(file := folder / spelling)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that must not be read
        return False


def _read(source: _Source, root: Path, name: str, dimensions: int) -> Tensor:
    """Return the content of the first of the candidates that is the right file."""
    refusals: list[DataError] = []
    for file in _candidates(root, source.name, name):
        try:
            return _read_checked(source, name, file, dimensions)
        except DataError as error:
            refusals.append(error)
    raise refusals[0] if refusals else DataNotFoundError(f"{source.name} must be in {str(root)!r}, got no {name} there")


def _read_checked(source: _Source, name: str, file: Path, dimensions: int) -> Tensor:
    try:
        with open_file(file) as opened:
            values, sha256 = read_idx(opened, repr(str(file)))
            opened.seek(0)
            md5 = hashlib.md5(opened.read(), usedforsecurity=False).hexdigest() if name in source.md5 else None
    except DataError as error:
        raise DataError(f"{error}; remove it to download it again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{str(file)!r} must be readable: {reason_of(error)}") from error
    known = source.sha256.get(name, sha256)
    if sha256 != known or values.ndim != dimensions:
        raise DataError(
            f"{str(file)!r} must contain {source.name}'s {name}, with the SHA-256 digest {known}, got {sha256}; remove "
            "it to download the right one, or read other files of this format by the data set digits_file"
        )
    if md5 != source.md5.get(name):
        warn(
            f"{str(file)!r} is used unchecked, because it is not the file that {source.name}'s authors distribute, "
            f"{name}.gz, and the digest of its content is not known",
            DataWarning,
        )
    return values


def _fetch(source: _Source, root: Path, train: bool, missing: list[str], download: bool) -> None:
    """Let torchvision download the set, or say how the files get to their place without it."""
    are, them = ("are", "them") if len(missing) > 1 else ("is", "it")
    files = " and ".join(f"{name}.gz" for name in missing)
    absent = f"{source.name} was not found in {str(root)!r}: {files} {are} missing"
    put = f"put {them} into {str(root / source.name / 'raw')!r}"
    instead = "or use mnist_5k, which comes with gankit"
    if not download:
        raise DataNotFoundError(f"{absent}; {put}, set download=True, {instead}")
    try:
        datasets: Any = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # a torchvision that was built for another torch raises RuntimeError
        raise MissingExtraError(
            f"{absent}, and downloading {them} needs a torchvision that fits this torch: pip install torchvision "
            f"({reason_of(error)}); or {put} by hand, {instead}"
        ) from error
    try:
        with limited_silence():
            getattr(datasets, source.name)(root, train=train, download=True)
    except (RuntimeError, OSError, ValueError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise DataNotFoundError(
            f"{absent} and could not be downloaded ({reason_of(error)}); {put} by hand, {instead}; the environment "
            "variable https_proxy names a proxy, and SSL_CERT_FILE the certificates to trust"
        ) from error
