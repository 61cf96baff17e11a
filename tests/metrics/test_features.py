import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, BadValueError, DataError, ShapeError
from gankit.metrics import extract_features


class Recorder(nn.Module):
    """Returns the mean and the largest value of each image, and keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.5)
        self.calls = []

    def forward(self, images):
        self.calls.append((images, self.training, self.dropout.training, torch.is_grad_enabled()))
        return self.weight * torch.stack([images.flatten(1).mean(1), images.flatten(1).amax(1)], 1)


def test_the_features_are_those_of_one_pass_over_all_images():
    network = Recorder()
    images = torch.rand(7, 3, 4, 5)
    assert torch.equal(extract_features(network, images, batch_size=3), network(images))
    assert [len(call[0]) for call in network.calls] == [3, 3, 1, 7]


@pytest.mark.parametrize("of", [lambda network: network, lambda network: network.forward], ids=["module", "method"])
def test_a_network_works_in_eval_mode_without_a_graph_and_keeps_its_modes(of):
    network = Recorder()
    network.dropout.eval()
    features = extract_features(of(network), torch.rand(2, 1, 2, 2))
    ((_, *modes),) = network.calls
    assert modes == [False, False, False]
    assert (network.training, network.dropout.training) == (True, False)
    assert not features.requires_grad


def test_the_modes_are_put_back_after_an_error():
    network = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        extract_features(network, torch.rand(2, 4))
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("form", "count"),
    [
        (lambda x: [x[:4], x[4:]], 6),
        (lambda x: [(x[:4], torch.zeros(4)), (x[4:], None)], 6),
        (lambda x: iter([[x[:1]], [x[1:]]]), 6),
        (lambda x: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(6)), batch_size=4), 6),
    ],
    ids=["list", "pairs", "iterator", "loader"],
)
def test_batches_with_and_without_conditions_are_read_to_their_end(form, count):
    images = torch.rand(6, 1, 2, 2)
    features = extract_features(Recorder(), form(images), batch_size=2)
    assert torch.equal(features, extract_features(Recorder(), images))


def test_images_are_given_in_the_type_and_on_the_device_of_the_network():
    network = Recorder().double()
    assert extract_features(network, torch.rand(2, 1, 2, 2)).dtype == torch.float64
    elsewhere = Recorder().to("meta")
    assert extract_features(elsewhere, torch.rand(2, 1, 2, 2)).device.type == "meta"
    assert elsewhere.calls[0][0].device.type == "meta"


def test_features_of_half_precision_become_float32():
    features = extract_features(lambda x: x.flatten(1), torch.rand(2, 1, 2, 2, dtype=torch.bfloat16))
    assert features.dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "sample_range", "seen"),
    [
        (torch.tensor([[-1.0, 0.0, 1.0]]), None, [-1.0, 0.0, 1.0]),
        (torch.tensor([[-1.0, 0.0, 1.0]]), (-1.0, 1.0), [0.0, 0.5, 1.0]),
        (torch.tensor([[0, 51, 255]], dtype=torch.uint8), None, [0.0, 0.2, 1.0]),
        (torch.tensor([[0, 51, 255]], dtype=torch.uint8), (-1.0, 1.0), [0.0, 0.2, 1.0]),
    ],
)
def test_a_range_is_mapped_to_0_and_1_and_so_are_bytes(images, sample_range, seen):
    features = extract_features(lambda x: x, images, sample_range=sample_range)
    torch.testing.assert_close(features, torch.tensor([seen]))


def test_an_extractor_that_works_in_place_does_not_change_the_images():
    images = torch.rand(3, 1, 2, 2)
    before = images.clone()
    extract_features(lambda x: x.mul_(2).flatten(1), images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_image_that_is_not_finite_has_no_features_even_if_the_extractor_hides_it(value):
    images = torch.rand(3, 1, 2, 2)
    images[1, 0, 0, 0] = value
    features = extract_features(lambda x: x.nan_to_num(0, 0, 0).flatten(1), images)
    assert torch.isfinite(features).all(1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("extractor", "error", "said"),
    [
        (lambda x: x, ShapeError, r"got \(4, 1, 2, 2\) for 4 images; \.flatten\(1\)"),
        (lambda x: x.flatten(1)[:3], ShapeError, r"got \(3, 4\) for 4 images$"),
        (lambda x: x.mean(), ShapeError, r"got \(\) for 4 images"),
        (lambda x: (x, x), ShapeError, "got tuple for 4 images"),
        (lambda x: x.flatten(1).long(), BadArgumentsError, "floating-point numbers, got torch.int64"),
        ("resnet18", BadArgumentsError, "extractor must be a network or a function, got 'resnet18'"),
    ],
)
def test_what_is_no_extractor_is_refused(extractor, error, said):
    with pytest.raises(error, match=said):
        extract_features(extractor, torch.rand(4, 1, 2, 2))


def test_features_that_depend_on_the_size_of_the_images_are_refused():
    with pytest.raises(ShapeError, match="as many features for each batch, got 4 and 9"):
        extract_features(lambda x: x.flatten(1), [torch.rand(2, 1, 2, 2), torch.rand(2, 1, 3, 3)])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(0, 1, 2, 2), "one or more, got none"),
        ([], "one or more, got none"),
        (torch.rand(4), r"got \(4,\)"),
        ([{"image": torch.rand(4, 1, 2, 2)}], "got dict"),
        ([()], "got tuple"),
    ],
)
def test_what_are_no_images_is_refused(images, said):
    with pytest.raises(DataError, match=said):
        extract_features(lambda x: x.flatten(1), images)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"sample_range": (1.0, 1.0)}, {"sample_range": (1.0, -1.0)}])
def test_numbers_that_are_not_allowed_are_refused(arguments):
    with pytest.raises(BadValueError, match=next(iter(arguments))):
        extract_features(Recorder(), torch.rand(4, 1, 2, 2), **arguments)
