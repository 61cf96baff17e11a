import builtins
import hashlib
import importlib
import sys
import types
import warnings

import pytest
import torch
from torch import nn

from gankit.errors import DataError, DataNotFoundError, DataWarning, MissingExtraError, ShapeError
from gankit.metrics import extract_features, inception
from gankit.metrics import inception_network as module

LIBRARY = "torch_fidelity.feature_extractor_inceptionv3"


class SmallExtractor(nn.Module):
    """Is built and called like torch-fidelity's network, and returns the sums of its bytes by channel."""

    def __init__(self, name, features_list, weights):
        super().__init__()
        assert features_list == ["2048"]
        self.weight = nn.Parameter(torch.rand(3))
        self.load_state_dict(torch.load(weights, weights_only=False))

    def forward(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        return (self.weight * images.float().sum((2, 3)),)


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A stand-in for the module of torch-fidelity, whose weights are three numbers in a local file."""
    torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "weights.pth")
    found = types.ModuleType(LIBRARY)
    found.URL_INCEPTION_V3 = (tmp_path / "weights.pth").as_uri()
    found.FeatureExtractorInceptionV3 = SmallExtractor
    monkeypatch.setitem(sys.modules, LIBRARY, found)
    monkeypatch.setattr(module, "_SHA256", hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return found


def test_missing_weights_are_downloaded_once_and_then_read(library, tmp_path, monkeypatch):
    first = inception()
    assert (tmp_path / "hub/checkpoints/weights.pth").is_file()
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    assert torch.equal(inception().network.weight, first.network.weight)
    assert not first.training


def test_the_files_content_is_checked_by_its_digest(library, tmp_path):
    file = tmp_path / "hub/checkpoints/weights.pth"
    inception()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="must be the weights of Inception with the SHA-256 digest .* remove it"):
        inception()


def test_a_download_with_other_content_is_not_kept(library, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHA256", 64 * "0")
    with pytest.raises(DataNotFoundError, match=r"could not be downloaded \(invalid hash value"):
        inception()
    assert list((tmp_path / "hub/checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:9/weights.pth", "refused"), ("file:///nowhere/weights.pth", "No such file")],
)
def test_a_download_that_fails_says_where_the_file_belongs(library, tmp_path, url, reason):
    library.URL_INCEPTION_V3 = url
    with pytest.raises(DataNotFoundError) as caught:
        inception()
    assert isinstance(caught.value, FileNotFoundError)
    said = str(caught.value)
    for part in (reason, str(tmp_path / "hub/checkpoints/weights.pth"), url, "weights="):
        assert part in said


def test_nothing_is_downloaded_unless_it_may_be(library, tmp_path):
    with pytest.raises(DataNotFoundError, match="set download=True"):
        inception(download=False)
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("write", "error", "said"),
    [
        (lambda file: None, DataNotFoundError, "which does not exist"),
        (lambda file: file.mkdir(), DataError, "must be readable"),
        (lambda file: file.write_bytes(b"no weights"), DataError, "damaged or something else"),
        (lambda file: torch.save(builtins.print, file), DataError, "damaged or something else"),
        (lambda file: torch.save(3, file), DataError, "state dict of torch-fidelity's Inception: "),
        (lambda file: torch.save({"weight": torch.zeros(4)}, file), DataError, "size mismatch for weight"),
        (lambda file: torch.save({"bias": torch.zeros(3)}, file), DataError, "Missing key"),
    ],
    ids=["missing", "folder", "text", "code", "number", "shape", "names"],
)
def test_a_file_of_ones_own_is_refused_unless_it_fits(library, tmp_path, write, error, said):
    write(tmp_path / "own.pth")
    with pytest.raises(error, match=said) as caught:
        inception(tmp_path / "own.pth")
    assert "own.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_ones_own_may_have_any_digest(library, tmp_path):
    torch.save({"weight": torch.tensor([3.0, 4.0, 5.0])}, tmp_path / "own.pth")
    assert inception(str(tmp_path / "own.pth")).network.weight.tolist() == [3.0, 4.0, 5.0]


def test_building_the_network_leaves_torchs_generator_where_it_was(library):
    before = torch.get_rng_state()
    inception()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("missing", [LIBRARY, "torch_fidelity"])
def test_without_the_package_the_error_names_the_extra(monkeypatch, missing):
    monkeypatch.delitem(sys.modules, LIBRARY, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gankit\[metrics\]'"):
        inception()


def test_values_are_rounded_to_bytes_and_grey_images_get_three_channels(library):
    network = inception()
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    summed = 255.0 * 128
    assert network(images / 255).tolist() == [[summed, 2 * summed, 3 * summed]]
    assert torch.equal(network(images), network(images / 255))
    assert torch.equal(network(images.expand(1, 3, 16, 16) / 255 + 0.0009), network(images))


def test_values_out_of_the_range_are_clamped_with_a_warning(library):
    network = inception()
    with pytest.warns(DataWarning, match=r"got values from -1 to 1, which are clamped"):
        features = network(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2))
    assert features.tolist() == [[255.0, 510.0, 765.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(torch.tensor([-1e-4, 1 + 1e-4]).view(1, 1, 1, 2))


def test_an_image_that_is_not_finite_has_no_features(library):
    images = torch.rand(3, 1, 2, 2)
    images[1, 0, 0, 0] = torch.inf
    assert torch.isfinite(inception()(images)).all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("shape", [(4, 784), (4, 2, 28, 28), (1, 28, 28)])
def test_what_are_no_images_is_refused(library, shape):
    with pytest.raises(ShapeError, match=r"must be \(N, 1, H, W\) or \(N, 3, H, W\), got"):
        inception()(torch.zeros(shape))


@pytest.mark.slow
def test_the_network_of_torch_fidelity_is_loaded_and_resizes_any_size(tmp_path, monkeypatch):
    extractor = importlib.import_module(LIBRARY).FeatureExtractorInceptionV3
    with monkeypatch.context() as patched:  # random weights, of which the package makes none without a file
        patched.setattr(extractor, "load_state_dict", lambda network, weights: None)
        patched.setattr(importlib.import_module(LIBRARY), "load_state_dict_from_url", lambda *_, **__: {})
        random = extractor("random", ["2048"])
    for name, buffer in random.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.1)  # so that the features of different images differ in float32
    torch.save(random.state_dict(), tmp_path / "random.pth")
    network = inception(tmp_path / "random.pth")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    direct = extractor("direct", ["2048"], tmp_path / "random.pth")
    for size in (28, 64):
        images = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
        (expected,) = direct(images)
        assert expected.std(0).max() > 0
        assert torch.equal(extract_features(network, images / 255), expected)
