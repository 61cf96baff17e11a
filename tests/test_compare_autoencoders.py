"""The measures of the program that compares autoencoders, and that each of its trainings is the one it says."""

from __future__ import annotations

import itertools
import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from gankit.metrics import frechet_distance
from tools import compare_autoencoders
from tools.compare_autoencoders import (
    NEAR,
    SETTINGS,
    WAYS,
    RandomFilters,
    Training,
    change_of,
    compare,
    detail,
    mean_and_spread,
    photographs,
    pixel_error,
    sharpness,
    table,
    train,
    windows_of,
)


def waves(*frequencies: int) -> torch.Tensor:
    """Return a picture of horizontal waves of the same height, with 64 pixels in a period that is cut off outside."""
    x = torch.arange(66.0, dtype=torch.float64)
    row = sum(torch.cos(2 * math.pi * frequency * (x + 0.3) / 64) for frequency in frequencies)
    return torch.as_tensor(row).expand(1, 1, 66, 66)


# --- measures --------------------------------------------------------------------------------------------


def test_the_detail_of_a_plane_is_zero_and_that_of_a_paraboloid_is_four():
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(5.0), indexing="ij")
    assert not detail(2 * rows - 3 * columns + 1)[None].any()
    assert (detail(rows.square() + columns.square()) == 4).all()


def test_the_sharpness_of_waves_is_that_of_the_closed_form():
    # the Laplacian multiplies a wave of frequency f by 2 cos(2 pi f / 64) - 2, and waves of different f are orthogonal
    low, high = (2 - 2 * math.cos(2 * math.pi * frequency / 64) for frequency in (3, 10))
    both = waves(3, 10)
    assert sharpness(waves(3), both) == pytest.approx(low / math.hypot(low, high), rel=1e-9)
    assert sharpness(waves(10), both) == pytest.approx(high / math.hypot(low, high), rel=1e-9)
    assert sharpness(0.5 * both + 0.3, both) == pytest.approx(0.5, rel=1e-9)


def test_the_pixel_error_is_a_root_of_a_mean_of_squares():
    assert pixel_error(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.3, 0.6]])) == pytest.approx(math.sqrt(0.125))


def test_random_filters_see_blur_and_noise_but_not_brightness():
    random = torch.Generator().manual_seed(0)
    pictures = F.avg_pool2d(torch.rand(80, 3, 18, 18, generator=random), 3, stride=1)
    features = RandomFilters(3)
    assert features(pictures).shape == (80, 64)
    torch.testing.assert_close(features(pictures + 0.2), features(pictures), atol=1e-5, rtol=0)

    def distance(others: torch.Tensor) -> float:
        return frechet_distance(features(others), features(pictures))

    noise = torch.randn(pictures.shape, generator=random)
    noisy = [distance(pictures + strength * noise) for strength in (0.0, 0.01, 0.03, 0.1)]
    blurred = [distance(F.avg_pool2d(pictures, side, stride=1, padding=side // 2)) for side in (1, 3, 5, 7)]
    for distances in (noisy, blurred):
        assert distances == sorted(distances)
        assert distances[0] == pytest.approx(0, abs=1e-9)


def test_a_change_is_the_difference_of_the_means_beside_the_start():
    before = [(step, 1.0 if 100 - NEAR <= step < 100 else 9.0) for step in range(100)]
    after = [(step, 1.5 if step < 120 else 2.0 if step < 130 else 9.0) for step in range(100, 300)]
    assert change_of([*before, *after], 100, 20) == 0.5
    assert change_of([*before, *after], 100, 30) == pytest.approx(2 / 3)


def test_a_mean_is_printed_to_the_second_digit_of_its_spread():
    assert mean_and_spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert mean_and_spread([0.07, 0.071, 0.075], sign=True) == "+0.0720 ± 0.0026"
    assert mean_and_spread([44.0, 30.0, 70.0]) == "48 ± 20"


# --- data ------------------------------------------------------------------------------------------------


def test_windows_are_cut_row_by_row():
    picture = torch.arange(2 * 6 * 8).view(2, 6, 8)
    windows = windows_of(picture, 4, 2)
    assert windows.shape == (6, 2, 4, 4)
    assert torch.equal(windows[4], picture[:, 2:6, 2:6])


def test_no_pixel_is_both_learned_from_and_held_out(monkeypatch):
    numbers = (torch.arange(4 * 200 * 140) * 4_999_999 % (1 << 24)).view(4, 200, 140)
    # each pixel has a colour of its own
    coloured = torch.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], dim=-1).to(torch.uint8).numpy()
    names = ("astronaut", "chelsea", "coffee", "rocket")
    pictures = {name: lambda one=one: one for name, one in zip(names, coloured, strict=True)}
    monkeypatch.setitem(sys.modules, "skimage", SimpleNamespace(data=SimpleNamespace(**pictures)))

    def pixels(windows):
        red, green, blue = (windows * 255).round().long().unbind(1)
        return (red << 16 | green << 8 | blue).unique()

    learned, held_out = map(pixels, photographs())
    assert not torch.isin(learned, held_out).any()
    assert len(learned) + len(held_out) == 4 * 192 * 128
    assert len(learned) > 2 * len(held_out)


def test_windows_of_the_photographs_have_detail():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image: pip install scikit-image")
    for windows in photographs():
        assert windows.shape[1:] == (3, 32, 32)
        assert len(windows) > 1000
        assert detail(windows).square().mean((1, 2, 3)).sqrt().min() >= 0.1
        assert windows.min() >= 0
        assert windows.max() <= 1


# --- trainings -------------------------------------------------------------------------------------------

SHAPES = {"digits": (1, 28, 28), "photographs": (3, 32, 32)}


def small(data: str):
    """Return the settings of a training of four steps, with random pictures to learn from, and such held out."""
    random = torch.Generator().manual_seed(1)
    samples = tuple(torch.rand(count, *SHAPES[data], generator=random) for count in (20, 14))
    return replace(SETTINGS[data], steps=4, start=2, ramp=4, batch=4, widths=(4, 4)), samples


@pytest.mark.parametrize("data", SHAPES)
def test_a_training_is_measured_in_all_ways_and_not_repeated(tmp_path, data):
    settings, samples = small(data)
    train(settings, samples, 0, tmp_path)
    written = (tmp_path / "result.json").read_text()
    ways = json.loads(written)["ways"]
    assert list(ways) == list(WAYS)
    for one in ways.values():
        assert [step for step, _ in one["errors"]] == [0, 1, 2, 3]
        assert all(math.isfinite(value) for value in one["scores"].values())
    errors = [one["errors"] for one in ways.values()]
    assert all(one[:2] == errors[0][:2] for one in errors)  # the same training until the start
    for one, other in itertools.combinations(errors, 2):
        assert one[2:] != other[2:]
    made = load_file(tmp_path / "made.safetensors")
    assert {name: tuple(pictures.shape) for name, pictures in made.items()} == dict.fromkeys(WAYS, (12, *SHAPES[data]))

    train(settings, samples, 0, tmp_path)
    assert (tmp_path / "result.json").read_text() == written
    with pytest.raises(SystemExit, match="other settings"):
        train(replace(settings, weight=0.1), samples, 0, tmp_path)


def test_before_its_start_the_term_changes_nothing_but_the_discriminator():
    settings, (learned, _) = small("digits")
    trainings = [Training(settings, SHAPES["digits"], way, 0) for way in WAYS]
    for training, step in itertools.product(trainings, range(settings.start)):
        training.step(learned[4 * step : 4 * step + 4], step)
    alone, head_start, ramp, untrained = trainings
    for other in (head_start, ramp, untrained):
        assert all(map(torch.equal, alone.model.parameters(), other.model.parameters()))
    new = Training(settings, SHAPES["digits"], "alone", 0).adversary
    for training, is_new in ((alone, True), (head_start, False), (ramp, False), (untrained, True)):
        assert all(map(torch.equal, training.adversary.parameters(), new.parameters())) == is_new
    # so what was trained in one way may go on in another one
    copies = [head_start.continued(way) for way in WAYS]
    for training, copy in zip(trainings, copies, strict=True):
        for one in (training, copy):
            one.step(learned[8:12], settings.start)
        assert all(map(torch.equal, training.model.parameters(), copy.model.parameters()))


def test_in_a_ramp_the_gradient_of_the_term_grows_linearly():
    settings, (learned, _) = small("digits")
    settings = replace(settings, start=0, ramp=10)
    pushes = []
    for step in (0, 4, 9):
        training, plain = (Training(settings, SHAPES["digits"], way, 0) for way in ("head start, ramp", "alone"))
        for one in (training, plain):
            one.step(learned[:4], step)
        pushes.append((training.model.last.weight.grad - plain.model.last.weight.grad).norm())
    torch.testing.assert_close(torch.stack(pushes) / pushes[-1], torch.tensor([0.1, 0.5, 1.0]), rtol=1e-3, atol=0)


# --- the whole -------------------------------------------------------------------------------------------


def test_tables_have_mean_and_spread_of_the_results():
    settings, (_, held_out) = small("photographs")
    results = [
        {
            "ways": {
                way: {
                    "scores": {"error": 0.1 * seed, "sharpness": 1.0 * seed, "distance": 10.0 * seed},
                    "errors": [(0, 0.0), (1, 0.0), (2, 0.1 * seed), (3, 0.1 * seed)],
                }
                for way in WAYS
            }
        }
        for seed in (1, 2, 3)
    ]
    lines = table(settings, held_out, results).splitlines()
    assert len(lines) == 4 + len(WAYS)
    assert lines[4] == "| alone | 0.20 ± 0.10 | 2.0 ± 1.0 | 20 ± 10 | +0.20 ± 0.10 | +0.20 ± 0.10 |"


def test_a_whole_comparison_prints_tables_and_draws_pictures(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    both = {data: small(data) for data in SHAPES}
    monkeypatch.setattr(compare_autoencoders, "samples_of", lambda data: both[data][1])
    compare([settings for settings, _ in both.values()], 2, tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("| untrained D |") == 2
    assert "digits: 20 to learn from, 14 held out" in printed
    for name in ("digits.png", "photographs.png", "start.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
