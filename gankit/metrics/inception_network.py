"""`inception`: the network whose features give the Fréchet Inception distance (FID) and the kernel distance (KID)."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import io
import pickle
import textwrap
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.errors import DataError, DataNotFoundError, DataWarning, MissingExtraError, ShapeError, reason_of, warn
from gankit.files import limited_silence, read_bytes
from gankit.seeds import default_generator_kept

_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_MOST_BYTES = 1 << 30
_SLACK = 1e-3  # for rounding errors of samples that should be in [0, 1]


def inception(weights: str | Path | None = None, *, download: bool = True) -> nn.Module:
    """Return the Inception network of FID and KID, from images to 2,048 features (Heusel et al. 2017).

    It takes images `(N, 1, H, W)` or `(N, 3, H, W)` of any size, bytes or values in [0, 1], and returns
    `(N, 2048)`. Values are rounded to bytes, one channel is repeated to three, and the image is resized to 299 x 299 by
    the *bilinear resize of TensorFlow 1, without antialiasing*. The network, its weights of 2015-12-05 and this resize
    are those of the package torch-fidelity, a port of the network that Heusel et al. used. Another resize gives other
    scores (Parmar et al. 2022), so compare scores of the same resize only. torchmetrics, for example, uses the same
    network and weights, but by default a resize with antialiasing.

    The file of the weights, 96 MB, is looked for in torch's folder of downloads, which torch-fidelity and torchmetrics
    use too. If it is not there, it is downloaded into it. Its content is checked by its digest.

    Args:
        weights: Another file of weights, a state dict of the same network. Its names and shapes are checked. None for
            the weights of 2015-12-05.
        download: Whether to download the weights if they are missing.

    Raises:
        MissingExtraError: If torch-fidelity is not installed (the extra `metrics`).
        DataNotFoundError: If the file is missing and cannot, or must not, be downloaded.
        DataError: If the file is incomplete, damaged, or contains something else.

    Example:
        >>> from gankit.metrics import extract_features
        >>> extract_features(inception(), torch.rand(10, 3, 32, 32)).shape  # doctest: +SKIP
        torch.Size([10, 2048])
    """
    try:
        library: Any = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except (ImportError, RuntimeError) as error:  # a torchvision that was built for another torch raises RuntimeError
        raise MissingExtraError(
            f"inception needs torch-fidelity: pip install 'gankit[metrics]' ({reason_of(error)})"
        ) from error
    if weights is None:
        url: str = library.URL_INCEPTION_V3
        file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        if not file.exists():
            _download(url, file, download)
    else:
        file = Path(weights).expanduser()
    content = _read(file, None if weights is not None else _SHA256)
    try:
        # the library runs what is pickled in the file, so it gets only what this call has found to be tensors
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError) as error:
        raise DataError(
            f"{str(file)!r} must be a state dict of Inception, written by torch.save; it is damaged or something else"
        ) from error
    try:
        with default_generator_kept():  # the library draws initial weights
            network = library.FeatureExtractorInceptionV3("inception", ["2048"], io.BytesIO(content))
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = textwrap.shorten(reason_of(error), 200)
        raise DataError(f"{str(file)!r} must be a state dict of torch-fidelity's Inception: {reason}") from error
    return _Inception(network).eval()


def _download(url: str, file: Path, download: bool) -> None:
    """Download the file, or say how it gets to its place without that."""
    absent = f"the weights of Inception were not found in {str(file)!r}"
    put = f"put {url} there"
    if not download:
        raise DataNotFoundError(f"{absent}; {put}, or set download=True")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with limited_silence():
            torch.hub.download_url_to_file(url, str(file), hash_prefix=_SHA256)
    except (RuntimeError, OSError, ValueError, EOFError, http.client.HTTPException) as error:
        raise DataNotFoundError(
            f"{absent} and could not be downloaded ({reason_of(error)}); {put} by hand, or name a file by weights=; "
            "the environment variable https_proxy names a proxy, and SSL_CERT_FILE the certificates to trust"
        ) from error


def _read(file: Path, sha256: str | None) -> bytes:
    """Return the content of the file, after comparison with its digest, if it is known."""
    try:
        content = read_bytes(file, _MOST_BYTES)
    except FileNotFoundError as error:
        raise DataNotFoundError(f"weights must be a file, got {str(file)!r}, which does not exist") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{str(file)!r} must be readable: {reason_of(error)}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise DataError(
            f"{str(file)!r} must be the weights of Inception with the SHA-256 digest {sha256}, got {found} of "
            f"{len(content)} bytes; remove it to download it again"
        )
    return content


class _Inception(nn.Module):
    """The network of torch-fidelity, which takes bytes, as one that takes numbers in [0, 1].

    Args:
        network: From bytes `(N, 3, H, W)` to a tuple of features `(N, 2048)`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ShapeError(f"images for Inception must be (N, 1, H, W) or (N, 3, H, W), got {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            images = images / 255
        is_finite = torch.isfinite(images).flatten(1).all(1, keepdim=True)
        images = images.nan_to_num(0.0, 0.0, 0.0)
        low, high = (float(one) for one in torch.aminmax(images))
        if low < -_SLACK or high > 1 + _SLACK:
            warn(
                f"images for Inception must be in [0, 1], got values from {low:.3g} to {high:.3g}, which are clamped; "
                "name the range of the images by sample_range=",
                DataWarning,
            )
        bytes_of_images = images.clamp(0, 1).mul(255).round().to(torch.uint8)
        features = cast(Tensor, self.network(bytes_of_images.expand(-1, 3, -1, -1))[0])
        return features.masked_fill(~is_finite, torch.nan)
