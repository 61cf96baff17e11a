"""`mnist_5k`, `mnist` and `fashion_mnist`, which share one file format."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib
import importlib.resources
import math
import zlib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gankit.data.local_files import expand_root
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorData
from gankit.errors import DataError, DataNotFoundError, GankitWarning, MissingExtraError, warn

# the SHA-256 digests of MNIST's decompressed files; torchvision knows the MD5 digests of the compressed ones
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


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
    folder = importlib.resources.files("gankit.data") / "mnist_5k"
    images, labels = (_read_idx(folder / f"{name}.gz") for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return TensorData(images.unsqueeze(1), labels.long())


@DATASETS.register("mnist")
def mnist(root: str | Path = "data", *, train: bool = True, download: bool = True) -> TensorData:
    """MNIST: 60,000 training and 10,000 test digits (LeCun et al. 1998), in torchvision's folder layout.

    Existing files are used without a network connection, after a check of their digests.

    Args:
        root: The folder that contains `MNIST/raw/train-images-idx3-ubyte.gz` and the other files, or will contain them.
        train: Whether to read the training digits instead of the test digits.
        download: Whether torchvision should download missing files.

    Raises:
        DataNotFoundError: If files are missing and cannot, or must not, be downloaded.
        DataError: If a file has another digest than MNIST's.

    Example:
        >>> mnist("nowhere", download=False)
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: MNIST was not found in 'nowhere/MNIST/raw'; set download=True, or use \
mnist_5k, which comes with gankit
    """
    return _read_set("MNIST", root, train, download, _MNIST_SHA256)


@DATASETS.register("fashion_mnist")
def fashion_mnist(root: str | Path = "data", *, train: bool = True, download: bool = True) -> TensorData:
    """Fashion-MNIST: clothes in MNIST's format (Xiao et al. 2017), in torchvision's folder layout.

    Existing files are used without a network connection, after a check of the digests of compressed files.

    Args:
        root: The folder that contains `FashionMNIST/raw/train-images-idx3-ubyte.gz` and the other files, or will
            contain them.
        train: Whether to read the training pictures instead of the test pictures.
        download: Whether torchvision should download missing files.

    Raises:
        DataNotFoundError: If files are missing and cannot, or must not, be downloaded.
        DataError: If a compressed file has another digest than Fashion-MNIST's.

    Example:
        >>> fashion_mnist("nowhere", download=False)
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: FashionMNIST was not found in 'nowhere/FashionMNIST/raw'; set \
download=True, or use mnist_5k, which comes with gankit
    """
    return _read_set("FashionMNIST", root, train, download, {})


def _read_set(name: str, root: str | Path, train: bool, download: bool, sha256: dict[str, str]) -> TensorData:
    root = expand_root(root)
    folder = root / name / "raw"
    prefix = "train" if train else "t10k"
    files = [folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"]
    source = _torchvision_dataset(name)
    if not all(file.exists() or _compressed(file).exists() for file in files):
        advice = "or use mnist_5k, which comes with gankit"
        if not download:
            raise DataNotFoundError(f"{name} was not found in {str(folder)!r}; set download=True, {advice}")
        try:
            source(root, train=train, download=True)
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split())
            raise DataNotFoundError(
                f"{name} was not found in {str(folder)!r} and could not be downloaded ({reason}); "
                f"put the files there, {advice}"
            ) from error
    md5: dict[str, str] = dict(source.resources)
    images, labels = (_read_checked(file, md5, sha256) for file in files)
    return TensorData(images.unsqueeze(1), labels.long())


def _torchvision_dataset(name: str) -> Any:
    try:
        datasets: Any = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # a torchvision that was built for another torch raises RuntimeError
        raise MissingExtraError(
            f"{name} needs a torchvision that fits this torch: pip install torchvision ({error}); mnist_5k needs none"
        ) from error
    return getattr(datasets, name)


def _compressed(file: Path) -> Path:
    return file.with_name(file.name + ".gz")


def _read_checked(file: Path, md5: dict[str, str], sha256: dict[str, str]) -> Tensor:
    compressed = _compressed(file)
    if compressed.exists():
        digest = hashlib.md5(compressed.read_bytes(), usedforsecurity=False).hexdigest()
        _check_digest(compressed, "MD5", digest, md5[compressed.name])
        return _read_idx(compressed)
    if file.name in sha256:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        _check_digest(file, "SHA-256", digest, sha256[file.name])
    else:
        warn(
            f"{file} is used unchecked, because the digest of the decompressed file is not known and {compressed.name} "
            "is missing",
            GankitWarning,
        )
    return _read_idx(file)


def _check_digest(file: Path, kind: str, digest: str, known: str) -> None:
    if digest != known:
        raise DataError(
            f"{file} must have the {kind} digest {known}, got {digest}; remove the file to download it again"
        )


def _read_idx(file: Path | Traversable) -> Tensor:
    """Read bytes in the IDX format: 0, 0, 8, the number of dimensions, their sizes (big-endian), the values."""
    content = file.read_bytes()
    try:
        if file.name.endswith(".gz"):
            content = gzip.decompress(content)
        head = 4 + 4 * content[3]
        sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, head, 4)]
    except (OSError, EOFError, zlib.error, IndexError) as error:
        raise DataError(f"{file} must be a file in the IDX format, and cannot be read: {error}") from error
    if content[:3] != b"\0\0\x08" or len(content) != head + math.prod(sizes):
        raise DataError(f"{file} must be a file in the IDX format, got another format or an incomplete file")
    return torch.frombuffer(bytearray(content[head:]), dtype=torch.uint8).reshape(sizes)
