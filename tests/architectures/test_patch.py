"""PatchGAN against a forward pass by hand, its counts, its field, and its conditions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from gankit import Answer, Spec
from gankit.architectures import DISCRIMINATORS, PatchDiscriminator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.presets import vanilla_mnist
from gankit.testing import check_discriminator

NORMALIZATIONS = ["batch", "instance", "spectral", "none"]
EVERY = pytest.mark.parametrize("normalization", NORMALIZATIONS)


def by_hand(D, x, *, depth=3, normalization="batch", kernel_size=4):
    """What the discriminator's weights compute in train mode, and the output of each LeakyReLU."""
    state, outputs = D.state_dict(), []

    def convolve(x, key, stride):
        weight = state.get(f"{key}.weight", state.get(f"{key}.parametrizations.weight.original"))
        if normalization == "spectral":
            u, v = (state[f"{key}.parametrizations.weight.0._{name}"] for name in "uv")
            weight = weight / (u @ weight.flatten(1) @ v)
        return F.conv2d(x, weight, state.get(f"{key}.bias"), stride=stride, padding=(kernel_size - 1) // 2)

    for index in range(depth + 1):
        x = convolve(x, f"network.{index}.0", 2 if index < depth else 1)
        if index and normalization in ("batch", "instance"):
            over = (0, 2, 3) if normalization == "batch" else (2, 3)
            x = (x - x.mean(over, keepdim=True)) / (x.var(over, unbiased=False, keepdim=True) + 1e-5).sqrt()
        if index and normalization == "batch":
            scale, shift = (state[f"network.{index}.1.{name}"].view(-1, 1, 1) for name in ("weight", "bias"))
            x = x * scale + shift
        x = torch.where(x > 0, x, 0.2 * x)
        outputs.append(x)
    return convolve(x, f"network.{depth + 1}", 1), outputs


@EVERY
@pytest.mark.parametrize(
    ("depth", "kernel_size", "size"), [(3, 4, (24, 31)), (2, 4, (17, 13)), (1, 3, (5, 8)), (2, 5, (9, 6))]
)
def test_the_map_is_that_of_the_layers_by_hand(normalization, depth, kernel_size, size):
    architecture = {"depth": depth, "normalization": normalization, "kernel_size": kernel_size}
    D = PatchDiscriminator((2, 24, 24), hidden_dim=2, features=True, dtype=torch.float64, **architecture)
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.normal_()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    answer = D(x)
    logits, outputs = by_hand(D, x, **architecture)
    torch.testing.assert_close(answer.heads, (logits,))
    torch.testing.assert_close(answer.features, outputs)
    if kernel_size == 4:  # each stride of 2 halves and rounds down, and the last two convolutions lose a position each
        assert logits.shape == (2, 1, *(side // 2**depth - 2 for side in size))


def test_its_widths_double_up_to_eight_times():
    D = PatchDiscriminator((3, 256, 256), hidden_dim=2, depth=5, normalization="none")
    convolutions = [layer for layer in D.network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [2, 4, 8, 16, 16, 16, 1]
    assert [one.stride[0] for one in convolutions] == [2, 2, 2, 2, 2, 1, 1]
    assert all(one.bias is not None for one in convolutions)


# the counts of pix2pix's published network, for pictures alone and joined to their condition
@pytest.mark.parametrize(
    ("shape", "options", "parameters"),
    [
        ((3, 256, 256), {}, 2_765_633),
        ((6, 256, 256), {}, 2_768_705),
        ((3, 256, 256), {"condition_channels": 3}, 2_768_705),
        # biases before InstanceNorm, which has no scale and shift
        ((3, 256, 256), {"normalization": "instance"}, 2_765_633 - 896),
    ],
)
def test_its_parameters_are_those_of_the_published_network(shape, options, parameters):
    D = PatchDiscriminator(shape, device="meta", **options)
    assert sum(parameter.numel() for parameter in D.parameters()) == parameters
    inputs = [
        torch.empty(2, channels, 256, 256, device="meta") for channels in (shape[0], D.condition_channels) if channels
    ]
    assert D(*inputs).shape == (2, 1, 30, 30)


@pytest.mark.parametrize(
    ("depth", "kernel_size", "side"), [(1, 4, 16), (2, 4, 34), (3, 4, 70), (5, 4, 286), (2, 3, 23)]
)
def test_a_logit_depends_on_its_receptive_field_and_on_nothing_else(depth, kernel_size, side):
    size = side + 2 ** (depth + 2)
    D = PatchDiscriminator(
        (1, size, size), hidden_dim=1, depth=depth, kernel_size=kernel_size, normalization="none", dtype=torch.float64
    )
    x = torch.randn(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = D(x)
    # the field of position 0 begins in the padding, 2^depth pixels before that of position 1
    padding = (kernel_size - 1) // 2
    before = padding * (3 * 2**depth - 1)
    inside = -(-before // 2**depth)
    for position, start in [(0, -before), (inside, inside * 2**depth - before)]:
        (slope,) = torch.autograd.grad(logits[0, 0, position, position], x, retain_graph=True)
        rows, columns = slope[0, 0].nonzero().unbind(1)
        for seen in (rows, columns):
            assert (seen.min(), seen.max() + 1) == (max(start, 0), start + side)
    assert D.receptive_field == side


def test_a_pixel_outside_its_field_does_not_change_the_corner():
    D = PatchDiscriminator((3, 80, 80), hidden_dim=2).eval()
    x = torch.randn(1, 3, 80, 80)
    corner = D(x)[..., 0, 0]
    for pixel, changes in [(46, True), (47, False), (79, False)]:  # 23 of the 70 pixels lie in the padding
        other = x.clone()
        other[..., pixel, 0] += 10
        assert torch.equal(D(other)[..., 0, 0], corner) != changes


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("depth", [1, 3])
@EVERY
def test_the_smallest_picture_has_a_judgement_and_a_smaller_one_is_refused(normalization, depth, kernel_size):
    options = {"hidden_dim": 1, "depth": depth, "kernel_size": kernel_size, "normalization": normalization}
    least = PatchDiscriminator((1, 64, 64), **options).minimum_size
    D = PatchDiscriminator((1, least, least), **options)
    judgements = D(torch.randn(2, 1, least, least))
    assert judgements.isfinite().all()
    assert judgements.numel() == 2 or normalization == "instance"
    if least > 1:
        sentence = f"patch needs a height and width of {least} or more for depth={depth}, got"
        with pytest.raises(ShapeError, match=rf"{sentence} \(1, 64, {least - 1}\); ") as refusal:
            PatchDiscriminator((1, 64, least - 1), **options)
        way = str(refusal.value).partition("; ")[2]
        if way.startswith("depth="):
            fitting = int(way.removeprefix("depth=").removesuffix(" fits"))
            assert 0 < fitting < depth
            PatchDiscriminator((1, 64, least - 1), **options | {"depth": fitting})
        else:
            smallest = PatchDiscriminator((1, 64, 64), **options | {"depth": 1}).minimum_size
            assert way == f"no depth fits less than {smallest}"
            assert least - 1 < smallest
        with pytest.raises(ShapeError, match=sentence):
            D(torch.randn(2, 1, least - 1, 64))


def test_its_initial_weights_are_those_of_the_published_code():
    torch.manual_seed(0)
    D = PatchDiscriminator((3, 24, 24), hidden_dim=16)
    again = torch.manual_seed(0) and PatchDiscriminator((3, 24, 24), hidden_dim=16)
    for key, tensor in D.named_parameters():
        assert torch.equal(tensor, again.get_parameter(key))
        if key.endswith("bias"):
            assert not tensor.any()
        else:
            # five standard errors
            mean, bound = (0 if tensor.ndim == 4 else 1), 5 * 0.02 / tensor.numel() ** 0.5
            assert abs(tensor.mean() - mean) < bound, key
            assert abs(tensor.std() - 0.02) < bound, key


# --- conditions ------------------------------------------------------------------------------------------


def test_a_picture_as_condition_is_joined_to_the_sample():
    D = PatchDiscriminator((3, 24, 24), hidden_dim=2, condition_channels=2).eval()
    joined = PatchDiscriminator((5, 24, 24), hidden_dim=2).eval()
    joined.load_state_dict(D.state_dict())
    for size in [(24, 24), (25, 40)]:
        x, condition = torch.randn(2, 3, *size), torch.randint(3, (2, 2, *size))
        assert torch.equal(D(x, condition), joined(torch.cat([x, condition], 1)))


def test_labels_are_planes_of_any_size():
    D = PatchDiscriminator((1, 24, 24), hidden_dim=2, num_classes=3).eval()
    joined = PatchDiscriminator((4, 24, 24), hidden_dim=2).eval()
    joined.load_state_dict(D.state_dict())
    x, labels = torch.randn(2, 1, 26, 31), torch.tensor([2, 0])
    planes = torch.zeros(2, 3, 26, 31)
    planes[0, 2] = planes[1, 0] = 1
    assert torch.equal(D(x, labels), joined(torch.cat([x, planes], 1)))


def test_a_condition_that_does_not_fit_is_refused():
    x, condition = torch.randn(2, 3, 24, 24), torch.randn(2, 2, 24, 24)
    D = PatchDiscriminator((3, 24, 24), hidden_dim=2, condition_channels=2)
    with pytest.raises(BadArgumentsError, match="was built with condition_channels=2, so it needs a condition"):
        D(x)
    for wrong in (condition[:1], condition[:, :1], condition[..., :1], torch.zeros(2, dtype=torch.long)):
        with pytest.raises(ShapeError, match=r"needs a condition of shape \(2, 2, 24, 24\), got") as refusal:
            D(x, wrong)
        assert str(refusal.value).endswith(f"got {tuple(wrong.shape)}")
    with pytest.raises(BadArgumentsError, match=r"takes num_classes .* or condition_channels .*, got both"):
        PatchDiscriminator((3, 24, 24), num_classes=2, condition_channels=2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kernel_size": 1}, "kernel_size must be 2 or more, because stride 2 skips pixels, got 1"),
        ({"depth": 0}, "depth must be above 0, got 0"),
        ({"condition_channels": 0}, "condition_channels must be above 0, got 0"),
        ({"normalization": "layer"}, "normalization must be one of batch, instance, spectral, none, got 'layer'"),
        ({"sample_shape": (2,)}, r"patch needs pictures \(C, H, W\), got sample_shape=\(2,\)"),
    ],
)
def test_an_impossible_argument_is_refused(arguments, sentence):
    with pytest.raises((BadValueError, ShapeError), match=f"^{sentence}$"):
        PatchDiscriminator(**{"sample_shape": (3, 24, 24)} | arguments)


def test_pairs_of_pictures_follow_the_rules():
    D = PatchDiscriminator((3, 8, 8), hidden_dim=4, depth=1, normalization="instance", condition_channels=2)
    check_discriminator(D, sample_shape=(3, 8, 8), condition_shape=(2, 8, 8))


def test_samples_of_other_channels_are_refused_by_the_argument_that_expects_them():
    sentence = (
        r"PatchDiscriminator with sample_shape=\(3, 24, 24\) needs samples of shape \(N, 3, H, W\), got \(2, 1, 24"
    )
    with pytest.raises(ShapeError, match=sentence):
        PatchDiscriminator((3, 24, 24), hidden_dim=2)(torch.zeros(2, 1, 24, 24))


# --- as a part -------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("features", [False, True])
def test_it_follows_the_rules(normalization, features):
    D = PatchDiscriminator((3, 8, 8), hidden_dim=4, depth=1, normalization=normalization, features=features)
    check_discriminator(D, sample_shape=(3, 8, 8))


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda D: pickle.loads(pickle.dumps(D)),
    "twice": lambda D: pickle.loads(pickle.dumps(copy.deepcopy(pickle.loads(pickle.dumps(D))))),
}


@pytest.mark.parametrize("make", COPIES)
@EVERY
def test_it_is_copied_and_pickled(normalization, make):
    D = PatchDiscriminator((3, 24, 24), hidden_dim=2, normalization=normalization)
    x = torch.randn(2, 3, 24, 24)
    D(x)
    made = COPIES[make](D)
    assert [type(one).__name__ for one in made.modules()] == [type(one).__name__ for one in D.modules()]
    assert not {id(one) for one in D.parameters()} & {id(one) for one in made.parameters()}
    for one in (D, made):  # they train alike
        one(x).square().sum().backward()
        torch.optim.SGD(one.parameters(), lr=0.1).step()
        one(x)
    torch.testing.assert_close(made.state_dict(), D.state_dict(), rtol=0, atol=0)
    assert torch.equal(made.eval()(x), D.eval()(x))


def test_it_exports_with_any_batch_and_any_size():
    D = PatchDiscriminator((3, 12, 12), hidden_dim=2, depth=2, features=True).eval()
    batch, height, width = (
        torch.export.Dim("batch", min=2),
        torch.export.Dim("height", min=16),
        torch.export.Dim("width", min=16),
    )
    exported = torch.export.export(D, (torch.randn(2, 3, 16, 20),), dynamic_shapes=({0: batch, 2: height, 3: width},))
    x = torch.randn(3, 3, 17, 33)
    answer = exported.module()(x)
    assert isinstance(answer, Answer)
    torch.testing.assert_close((answer.heads, answer.features), (D(x).heads, D(x).features))


def trained(discriminator, **options):
    preset = vanilla_mnist.replace(batch_size=4)
    generator, replicas = Spec("mlp", hidden_dim=4, depth=1), options.get("replicas")
    trainer = preset(
        generator=generator, discriminator=discriminator, loss="hinge", device="cpu", execution="eager", **options
    )
    before = {key: tensor.clone() for key, tensor in trainer.discriminator.state_dict().items()}
    trainer.fit(preset.batches(device="cpu", replicas=replicas), steps=2)
    changed = [
        key for key, tensor in trainer.discriminator.state_dict().items() if not torch.equal(tensor, before[key])
    ]
    return trainer, changed


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize(
    ("normalization", "concatenate"), [("batch", False), *((one, True) for one in NORMALIZATIONS[1:])]
)
def test_it_trains_with_a_gradient_penalty(normalization, concatenate, replicas):
    D = Spec("patch", hidden_dim=2, depth=2, normalization=normalization)
    trainer, changed = trained(
        D, replicas=replicas, concatenate_discriminator_passes=concatenate, regularizers=[Spec("r1", weight=10.0)]
    )
    assert all(value.isfinite().all() for value in trainer.metrics.values())
    assert (trainer.metrics["penalty/r1"] > 0).all()
    assert set(changed) >= {key for key, _ in trainer.discriminator.named_parameters() if "weight" in key}


def test_the_features_of_its_own_pass_are_matched():
    D = Spec("patch", hidden_dim=2, depth=2, features=True, normalization="instance")
    trainer, _ = trained(D, regularizers=["feature_matching"])
    assert trainer.metrics["penalty/feature_matching"] > 0


@pytest.mark.parametrize("inner", [Spec("patch", hidden_dim=2), Spec("patch", hidden_dim=2, features=True)])
def test_it_judges_packs(inner):
    D = DISCRIMINATORS.build("packed", sample_shape=(1, 24, 32), packing=2, discriminator=inner).eval()
    x = torch.randn(6, 1, 24, 32)
    returned, packs = D(x), D.discriminator(x.view(3, 2, 24, 32))
    if not inner.arguments.get("features"):
        assert torch.equal(returned, packs.repeat_interleave(2, 0))
        with pytest.raises(BadArgumentsError, match="or with features in its Answer, got PatchDiscriminator"):
            D.features(x)
        return
    assert torch.equal(returned.heads[0], packs.heads[0].repeat_interleave(2, 0))
    for found in (returned.features, D.features(x)):
        torch.testing.assert_close(found, [one.repeat_interleave(2, 0) for one in packs.features])
