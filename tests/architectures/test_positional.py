"""What holds for each discriminator that judges positions of pictures or waveforms."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS, Adversary, Answer, Spec
from gankit.architectures import PixelDiscriminator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.presets import vanilla_mnist
from gankit.testing import check_discriminator

PICTURE, WAVEFORM = (2, 18, 21), (1, 95)
SMALL = {
    "pixel": {"hidden_dim": 3, "normalization": "none"},
    "unet": {"hidden_dim": 2, "depth": 2},
    "vgg": {"hidden_dim": 2, "depth": 3},
    "blur_patch": {"hidden_dim": 4, "groups": 2, "depth": 2, "positions": None},
    "multi_period": {"hidden_dim": 1, "periods": (2, 5)},
    "multi_scale_waveform": {"hidden_dim": 16, "scales": 2},
    "multi_resolution_stft": {"hidden_dim": 2, "n_ffts": (16, 8)},
}
SHAPES = {name: WAVEFORM if name.startswith("multi") else PICTURE for name in SMALL}
EVERY = pytest.mark.parametrize("name", SMALL)
WITHOUT_BATCH_NORM = pytest.mark.parametrize("name", [name for name in SMALL if name != "vgg"])


def build(name, **options) -> nn.Module:
    return DISCRIMINATORS.build(name, **{"sample_shape": SHAPES[name]} | SMALL[name] | options)


def samples(name, count=4, dtype=torch.float32):
    return torch.randn(count, *SHAPES[name], dtype=dtype)


def heads_of(returned):
    return returned.heads if isinstance(returned, Answer) else (returned,)


def flat(features):
    return [one for part in features for one in (part if isinstance(part, list) else [part])]


@EVERY
def test_it_follows_the_rules(name):
    torch.manual_seed(0)  # with few positions, all judgements of an untrained network may have one sign
    check_discriminator(build(name), sample_shape=SHAPES[name])


@EVERY
def test_features_come_from_the_pass_that_judges(name):
    with_features, without = build(name).eval(), build(name, features=False).eval()
    without.load_state_dict(with_features.state_dict())
    x = samples(name)
    calls = []
    for layer in with_features.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda *_: calls.append(1))
    answer = with_features(x)
    layers = sum(isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)) for layer in with_features.modules())
    assert len(calls) == layers
    for one, other in zip(answer.heads, heads_of(without(x)), strict=True):
        assert torch.equal(one, other)
    features = flat(answer.features)
    assert len(features) >= layers - len(answer.heads)
    assert all(one.shape[0] == 4 for one in features)
    if len(answer.heads) > 1:  # head by head
        assert len(answer.features) == len(answer.heads)


@EVERY
def test_the_last_features_decide_the_judgements(name):
    """A gradient of the judgements reaches each feature, so each is a part of the pass."""
    answer = build(name)(samples(name))
    total = sum(head.square().sum() for head in answer.heads)
    slopes = torch.autograd.grad(total, flat(answer.features), allow_unused=True)
    assert all(slope is not None and slope.isfinite().all() and slope.any() for slope in slopes)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "vgg"])
def test_it_takes_the_smallest_size_and_refuses_less(name):
    D = build(name)
    channels, *others = SHAPES[name]
    least = D.minimum_size
    for size in (least, least + 1, least + 3):
        heads = heads_of(D(torch.randn(2, channels, *[size] * len(others))))
        assert all(head.numel() and head.isfinite().all() for head in heads)
    if least > 1:
        small = (channels, *others[:-1], least - 1)
        sentence = f"^{name} needs (a height and width|a length) of {least} or more.*, got"
        with pytest.raises(ShapeError, match=sentence):
            D(torch.randn(2, *small))
        with pytest.raises(ShapeError, match=sentence):
            build(name, sample_shape=small)


def test_vgg_takes_the_size_it_was_built_for_alone():
    D = build("vgg")
    with pytest.raises(ShapeError, match=r"needs samples of shape \(N, 2, 18, 21\), got \(2, 2, 18, 22\)"):
        D(torch.randn(2, 2, 18, 22))
    with pytest.raises(
        ShapeError, match=r"^vgg needs a height and width of 8 or more for depth=3, got \(1, 7, 9\); depth=2"
    ):
        build("vgg", sample_shape=(1, 7, 9))


@EVERY
def test_a_condition_of_the_samples_size_is_joined_by_channel(name):
    channels, *sizes = SHAPES[name]
    D, joined = build(name, condition_channels=2).eval(), build(name, sample_shape=(channels + 2, *sizes)).eval()
    joined.load_state_dict(D.state_dict())
    x, condition = samples(name), torch.randn(4, 2, *sizes)
    for one, other in zip(D(x, condition).heads, joined(torch.cat([x, condition], 1)).heads, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(BadArgumentsError, match="was built with condition_channels=2, so it needs a condition"):
        D(x)
    with pytest.raises(ShapeError, match=r"needs a condition of shape \(4, 2, .*\), got \(4, 1, "):
        D(x, condition[:, :1])
    with pytest.raises(BadArgumentsError, match=f"^{name} takes num_classes .* got both"):
        build(name, num_classes=2, condition_channels=2)


@EVERY
def test_another_kind_of_sample_is_refused(name):
    kind, wrong = ("pictures", (3,)) if SHAPES[name] is PICTURE else ("waveforms", (1, 8, 8))
    with pytest.raises(ShapeError, match=rf"^{name} needs {kind} \(C, .*\), got sample_shape="):
        build(name, sample_shape=wrong)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("unet", {"depth": 0}, "depth must be above 0, got 0"),
        ("vgg", {"depth": 0}, "depth must be above 0, got 0"),
        ("blur_patch", {"groups": 3}, "groups must divide hidden_dim, 4, got 3"),
        ("blur_patch", {"positions": 0}, "positions must be above 0, got 0"),
        ("blur_patch", {"kernel_size": 1}, "kernel_size must be 2 or more, because stride 2 skips pixels, got 1"),
        ("multi_period", {"periods": ()}, r"periods must be one or more numbers, got \(\)"),
        ("multi_period", {"periods": (2, 0)}, "periods must be above 0, got 0"),
        ("multi_scale_waveform", {"hidden_dim": 24}, "hidden_dim must be a multiple of 16, .*, got 24"),
        ("multi_scale_waveform", {"scales": 0}, "scales must be above 0, got 0"),
        ("multi_resolution_stft", {"n_ffts": ()}, r"n_ffts must be one or more numbers, got \(\)"),
        ("multi_resolution_stft", {"hop_lengths": (4,)}, "hop_lengths must be one for each of the 2 n_ffts, got 1"),
        ("multi_resolution_stft", {"win_lengths": (16, 9)}, "win_lengths must be at most n_ffts, got 9 for 8"),
    ],
)
def test_an_impossible_argument_is_refused(name, options, sentence):
    with pytest.raises(BadValueError, match=f"^{sentence}$"):
        build(name, **options)


# --- in training -----------------------------------------------------------------------------------------


def trained(name, steps=2, **options):
    shape, replicas, seed = SHAPES[name], options.get("replicas"), options.get("seed", 0)
    torch.manual_seed(0)
    data = torch.rand(24, *shape)
    preset = vanilla_mnist.replace(batch_size=4, sample_shape=shape, sample_range=(-1, 1))
    trainer = preset(
        generator=Spec("mlp", hidden_dim=4, depth=1),
        discriminator=Spec(name, **SMALL[name]),
        loss="hinge",
        # Adam would divide rounding errors by their own size
        generator_optimizer=Spec("sgd", lr=0.01),
        discriminator_optimizer=Spec("sgd", lr=0.01),
        device="cpu",
        execution="eager",
        **options,
    )
    trainer.fit(preset.batches(2 * data - 1, device="cpu", seed=seed, replicas=replicas), steps=steps)
    return trainer


@EVERY
@pytest.mark.parametrize("replicas", [None, 2])
def test_it_trains_with_a_penalty_that_differentiates_twice(name, replicas):
    trainer = trained(name, replicas=replicas, regularizers=[Spec("r1", weight=10.0)])
    assert all(value.isfinite().all() for value in trainer.metrics.values())
    assert (trainer.metrics["penalty/r1"] > 0).all()


@WITHOUT_BATCH_NORM
def test_a_replica_is_the_model_that_its_seed_gives_alone(name):
    both, alone = trained(name, replicas=2, seed=3), trained(name, seed=4)
    own = both.discriminator.state_dict()
    for key, tensor in alone.discriminator.state_dict().items():
        torch.testing.assert_close(own[key][1], tensor, rtol=1e-4, atol=1e-5)


@WITHOUT_BATCH_NORM
def test_passes_may_be_concatenated(name):
    one, other = (trained(name, steps=1, concatenate_discriminator_passes=both) for both in (False, True))
    spectral = any("_u" in key for key in one.discriminator.state_dict())
    if spectral:  # one step of the power method in place of two
        assert other.metrics["discriminator_loss"].isfinite()
        return
    torch.testing.assert_close(one.metrics["discriminator_loss"], other.metrics["discriminator_loss"])


@EVERY
def test_its_features_are_matched(name):
    assert trained(name, regularizers=["feature_matching"]).metrics["penalty/feature_matching"] > 0


@EVERY
def test_it_serves_an_adversary(name):
    adversary = Adversary(build(name), loss="least_squares", discriminator_start=0, generator_start=0)
    x, y = samples(name), nn.Parameter(samples(name))
    adversary.discriminator_loss(real=x, fake=y, step=0).backward()
    assert y.grad is None
    adversary.generator_loss(real=x, fake=y, step=0).backward()
    assert y.grad.any()
    assert all(parameter.grad is not None for parameter in adversary.discriminator.parameters())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("unet", "multi_resolution_stft") else pytest.mark.slow) for name in SMALL],
)
def test_it_compiles(name):
    D = build(name).eval()
    x = samples(name)
    compiled = torch.compile(copy.deepcopy(D), backend="eager", fullgraph=True)
    for one, other in zip(compiled(x).heads, D(x).heads, strict=True):
        torch.testing.assert_close(one, other)


@EVERY
def test_it_runs_under_autocast(name):
    D = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        heads = D(samples(name)).heads
    assert all(head.isfinite().all() for head in heads)


# --- each of them ----------------------------------------------------------------------------------------


def test_an_unknown_normalization_is_refused():
    with pytest.raises(BadValueError, match="^normalization must be one of batch, instance, none, got 'spectral'$"):
        PixelDiscriminator(PICTURE, normalization="spectral")


def test_a_pixel_is_judged_from_itself_alone():
    D = build("pixel").eval()
    x = samples("pixel", 1)
    other = x.clone()
    other[..., 5, 7] += 1
    differs = (D(x).heads[0] != D(other).heads[0])[0, 0]
    assert differs.nonzero().tolist() == [[5, 7]]


def test_unet_judges_every_pixel_of_pictures_of_any_size():
    D = build("unet")
    for size in [(4, 4), (5, 19), (18, 21)]:
        assert D(torch.randn(1, 2, *size)).heads[0].shape == (1, 1, *size)
    assert build("unet", skip_connections=False)(samples("unet")).heads[0].shape == (4, 1, 18, 21)


def test_the_blur_removes_a_checkerboard_and_keeps_a_plane():
    D = build("blur_patch")
    blur = next(layer for layer in D.modules() if type(layer).__name__ == "BlurredHalving")
    board = torch.tensor([1.0, -1.0]).repeat(8).outer(torch.tensor([1.0, -1.0]).repeat(8))
    assert blur(board[None, None])[..., 1:-1, 1:-1].abs().max() < 1e-6
    assert torch.allclose(blur(torch.ones(1, 3, 16, 16))[..., 1:-1, 1:-1], torch.tensor(1.0))
    # as scipy.signal computes binomial filters: rows of Pascal's triangle over their sum
    for size, row in [(2, [1, 1]), (3, [1, 2, 1]), (4, [1, 3, 3, 1]), (5, [1, 4, 6, 4, 1])]:
        line = torch.tensor(row) / sum(row)
        assert torch.allclose(type(blur)(size).kernel[0, 0], line.outer(line))


def test_a_period_sees_no_neighbours():
    """The judgements of one column depend on the values at distances that are multiples of the period alone."""
    D = build("multi_period", periods=(5,)).double()
    x = samples("multi_period", 1, torch.float64).requires_grad_()
    columns = D(x).heads[0].view(-1, 5)
    (slope,) = torch.autograd.grad(columns[:, 2].sum(), x)
    seen = slope[0, 0].nonzero().flatten()
    assert len(seen) > 1
    assert (seen % 5 == 2).all()


def test_the_transform_is_that_of_torch():
    D = build("multi_resolution_stft", n_ffts=(16, 8), win_lengths=(13, 8), hop_lengths=(5, 2))
    x = samples("multi_resolution_stft")
    for index, (size, window, hop) in enumerate([(16, 13, 5), (8, 8, 2)]):
        hann = torch.hann_window(window)
        expected = (
            torch.stft(x[:, 0], size, hop, window, hann, center=False, return_complex=True).transpose(1, 2)
            / hann.square().sum().sqrt()
        )
        found = D.spectrogram(x, index)
        torch.testing.assert_close(found, torch.stack([expected.real, expected.imag], 1), rtol=1e-4, atol=1e-5)


def test_silence_has_gradients_of_the_second_order():
    D = build("multi_resolution_stft")
    x = torch.zeros(2, *WAVEFORM, requires_grad=True)
    (slope,) = torch.autograd.grad(sum(head.sum() for head in D(x).heads), x, create_graph=True)
    slope.square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in D.parameters())
