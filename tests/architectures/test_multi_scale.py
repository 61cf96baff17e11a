"""Discriminators of several sizes: what each of them sees, and how their judgements are joined."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from gankit import Answer, Spec
from gankit.architectures import DISCRIMINATORS, MultiScaleDiscriminator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.protocols import batch_multiple_of
from gankit.testing import check_discriminator
from tests.architectures.test_patch import trained

SHAPE = (1, 16, 16)
PATCH = Spec("patch", hidden_dim=2, depth=1, normalization="instance")


def with_features(spec):
    return Spec(spec.name, **spec.arguments, features=True)


def half(x):
    """The mean over each window of 3x3 pixels around every second pixel, without what lies outside the picture."""
    height, width = x.shape[2:]
    rows = [x[:, :, max(i - 1, 0) : i + 2] for i in range(0, height, 2)]
    return torch.stack(
        [torch.stack([row[..., max(j - 1, 0) : j + 2].mean((2, 3)) for j in range(0, width, 2)], -1) for row in rows],
        -2,
    )


@pytest.mark.parametrize("size", [(16, 16), (21, 14)])
@pytest.mark.parametrize("condition_channels", [None, 2])
def test_each_discriminator_sees_the_means_of_the_size_before(size, condition_channels):
    D = MultiScaleDiscriminator(
        (1, *size),
        scales=2,
        discriminator=Spec("patch", depth=1, features=True, condition_channels=condition_channels),
        dtype=torch.float64,
    ).eval()
    inputs = [torch.randn(2, channels, *size, dtype=torch.float64) for channels in (1, condition_channels) if channels]
    answer = D(*inputs)
    first, second = D.discriminators[0](*inputs), D.discriminators[1](*map(half, inputs))
    torch.testing.assert_close(answer.heads, (*first.heads, *second.heads))
    torch.testing.assert_close(answer.features, [first.features, second.features])
    assert D.discriminators[1].sample_shape == (1, *half(inputs[0]).shape[2:])


def test_pictures_of_integers_are_conditions_too():
    D = MultiScaleDiscriminator(
        SHAPE, scales=2, discriminator=Spec("patch", hidden_dim=2, depth=1, condition_channels=1)
    ).eval()
    x, mask = torch.randn(2, *SHAPE), torch.randint(2, (2, *SHAPE))
    torch.testing.assert_close(D(x, mask).heads, D(x, mask.float()).heads)


def test_labels_go_to_every_discriminator():
    D = MultiScaleDiscriminator(SHAPE, scales=3, discriminator="mlp", num_classes=3).eval()
    x, labels = torch.randn(4, *SHAPE), torch.tensor([0, 2, 1, 2])
    heads = D(x, labels).heads
    for discriminator, head in zip(D.discriminators, heads, strict=True):
        torch.testing.assert_close(head, discriminator(x, labels))
        x = half(x)
        assert head.shape == (4,)
    with pytest.raises(BadArgumentsError, match="needs a condition"):
        D(torch.randn(4, *SHAPE))


def test_its_discriminators_have_weights_of_their_own_by_the_seed():
    torch.manual_seed(0)
    D = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=PATCH)
    torch.manual_seed(0)
    again = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=PATCH)
    torch.testing.assert_close(again.state_dict(), D.state_dict(), rtol=0, atol=0)
    first, second = (list(one.parameters()) for one in D.discriminators)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a.ndim == 4)
    assert {key.partition(".")[0] for key in D.state_dict()} == {"discriminators"}


class Returns(nn.Module):
    """A discriminator that returns what a function makes of its samples."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_heads_and_features_of_several_heads_become_one_row_of_them():
    def two_heads(x):
        flat = x.flatten(1)
        return Answer((flat[:, 0], flat[:, :3]), features=[[flat], [flat, 2 * flat]])

    D = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=lambda sample_shape: Returns(two_heads))
    x = torch.randn(5, *SHAPE)
    answer, flats = D(x), (x.flatten(1), half(x).flatten(1))
    torch.testing.assert_close(answer.heads, tuple(head for flat in flats for head in (flat[:, 0], flat[:, :3])))
    torch.testing.assert_close(answer.features, [layers for flat in flats for layers in ([flat], [flat, 2 * flat])])


def test_one_tensor_of_features_is_a_list_of_one():
    def one(x):
        return Answer((x.mean((1, 2, 3)),), features=x)

    D = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=lambda sample_shape: Returns(one))
    x = torch.randn(5, *SHAPE)
    torch.testing.assert_close(D(x).features, [[x], [half(x)]])


def test_a_discriminator_within_that_returns_no_judgements_is_refused():
    D = MultiScaleDiscriminator(SHAPE, scales=1, discriminator=lambda sample_shape: Returns(lambda x: x.flatten(1)))
    with pytest.raises(ShapeError, match=r"got \(5, 256\); return Answer"):
        D(torch.randn(5, *SHAPE))


def test_it_needs_the_batches_of_its_discriminators():
    D = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=Spec("packed", packing=4, discriminator=PATCH))
    assert batch_multiple_of(D) == 4
    assert [head.shape for head in D(torch.randn(8, *SHAPE)).heads] == [(8, 1, 6, 6), (8, 1, 2, 2)]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"scales": 0}, BadValueError, "scales must be above 0, got 0"),
        ({"scales": 6}, ShapeError, r"multi_scale must have at most 5 scales for sample_shape=\(1, 16, 16\), got 6"),
        ({"sample_shape": (2,)}, ShapeError, r"multi_scale needs pictures \(C, H, W\), got sample_shape=\(2,\)"),
        (
            {"sample_shape": (1, 28, 28), "discriminator": "patch"},
            ShapeError,
            r"multi_scale with scales=3 shows its discriminators pictures of \(1, 28, 28\), \(1, 14, 14\), "
            r"\(1, 7, 7\): patch needs a height and width of 24 or more for depth=3, got \(1, 7, 7\); depth=1 fits, "
            "and fewer scales need less",
        ),
    ],
)
def test_an_impossible_argument_is_refused(arguments, error, sentence):
    with pytest.raises(error, match=f"^{sentence}$"):
        MultiScaleDiscriminator(**{"sample_shape": SHAPE, "discriminator": "mlp"} | arguments)


@pytest.mark.parametrize("size", [28, 56, 92, 93])
@pytest.mark.parametrize("scales", [2, 3])
def test_the_depth_that_a_refusal_names_fits(scales, size):
    options = {"sample_shape": (1, size, size), "scales": scales, "device": "meta"}
    try:
        depth = MultiScaleDiscriminator(**options).discriminators[0].depth
    except ShapeError as refusal:
        depth = int(str(refusal).rpartition("depth=")[2].partition(" fits")[0])
    assert (depth == 3) == (size >= (93 if scales == 3 else 47))
    MultiScaleDiscriminator(**options, discriminator=Spec("patch", depth=depth))


def test_a_refusal_of_the_full_size_alone_is_passed_on():
    def only_small(sample_shape):
        if sample_shape[1] > 8:
            raise ShapeError(f"sample_shape must be small, got {sample_shape}")
        return nn.Identity()

    with pytest.raises(
        ShapeError, match=r": sample_shape must be small, got \(1, 16, 16\), and fewer scales need less$"
    ):
        MultiScaleDiscriminator(SHAPE, scales=2, discriminator=only_small)


@pytest.mark.parametrize("size", [(16, 16), (1, 5), (7, 1)])
def test_it_can_have_as_many_scales_as_there_are_sizes(size):
    most = {16: 5, 5: 4, 7: 4}[max(size)]
    D = MultiScaleDiscriminator((1, *size), scales=most, discriminator=Spec("mlp", hidden_dim=2))
    assert D.discriminators[-1].sample_shape == (1, 1, 1)
    assert len(D(torch.randn(2, 1, *size)).heads) == most


def test_it_follows_the_rules():
    D = MultiScaleDiscriminator((3, 16, 16), scales=2, discriminator=with_features(PATCH))
    check_discriminator(D, sample_shape=(3, 16, 16))


def test_pairs_of_pictures_follow_the_rules():
    D = MultiScaleDiscriminator(
        SHAPE, scales=2, discriminator=Spec("patch", hidden_dim=2, depth=1, condition_channels=2)
    )
    check_discriminator(D, sample_shape=SHAPE, condition_shape=(2, 16, 16))


@pytest.mark.parametrize("normalization", ["instance", "spectral"])
def test_it_is_pickled_and_exported(normalization):
    patch = Spec("patch", hidden_dim=2, depth=1, normalization=normalization, features=True)
    D = MultiScaleDiscriminator(SHAPE, scales=2, discriminator=patch).eval()
    x, batch = torch.randn(3, *SHAPE), torch.export.Dim("batch", min=2)
    exported = torch.export.export(D, (torch.randn(2, *SHAPE),), dynamic_shapes=({0: batch},))
    answer = D(x)
    for other in (exported.module()(x), pickle.loads(pickle.dumps(D))(x)):
        torch.testing.assert_close((other.heads, other.features), (answer.heads, answer.features))


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("concatenate", [False, True])
def test_it_trains_with_a_gradient_penalty(concatenate, replicas):
    D = Spec("multi_scale", scales=2, discriminator=PATCH)
    trainer, changed = trained(
        D, replicas=replicas, concatenate_discriminator_passes=concatenate, regularizers=[Spec("r1", weight=10.0)]
    )
    assert all(value.isfinite().all() for value in trainer.metrics.values())
    assert (trainer.metrics["penalty/r1"] > 0).all()
    assert {"discriminator_loss/head0", "discriminator_loss/head1"} < set(trainer.metrics)
    for scale in (0, 1):
        assert any(key.startswith(f"discriminators.{scale}.") for key in changed)


def test_the_features_of_all_sizes_are_matched():
    D = Spec("multi_scale", scales=2, discriminator=with_features(PATCH))
    trainer, _ = trained(D, regularizers=["feature_matching"])
    assert trainer.metrics["penalty/feature_matching"] > 0


def test_on_the_meta_device_it_is_that_of_pix2pix_hd():
    D = DISCRIMINATORS.build(
        "multi_scale", sample_shape=(3, 256, 512), discriminator=Spec("patch", normalization="instance"), device="meta"
    )
    assert [tuple(head.shape) for head in D(torch.empty(1, 3, 256, 512, device="meta")).heads] == [
        (1, 1, 30, 62),
        (1, 1, 14, 30),
        (1, 1, 6, 14),
    ]
