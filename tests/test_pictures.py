"""Pictures of a run have the right size and the right pixels, and what cannot be drawn is refused."""

from __future__ import annotations

import math
import re
import struct
import sys
from pathlib import Path

import pytest
import torch
import torchvision.utils  # noqa: F401 (imported before a test hides pillow, which it needs)
from PIL import Image

from gankit import Answer, StepContext
from gankit.errors import BadValueError, DataError, MissingExtraError, OutputError, ShapeError
from gankit.pictures import save_animation, save_array, save_curves, save_grid, save_panels, save_points, writes

BORDER = 2  # pixels between samples and around them


def flat(*colours, size=(4, 3)):
    """Samples of one grey each."""
    return torch.tensor(colours, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, *size)


def read(path):
    """A picture's pixels, `(height, width, 3)`."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        return torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8).reshape(rgb.height, rgb.width, 3)


def cell(pixels, row, column, size, zoom):
    """The pixels of one sample in a grid."""
    height, width = (side * zoom for side in size)
    top, left = BORDER + row * (height + BORDER), BORDER + column * (width + BORDER)
    return pixels[top : top + height, left : left + width]


# --- grids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [1, 2, 5])
@pytest.mark.parametrize(("count", "columns", "rows", "wide"), [(8, 8, 1, 8), (9, 8, 2, 8), (2, 8, 1, 2), (5, 1, 5, 1)])
def test_a_grid_has_room_for_every_sample_and_borders(count, columns, rows, wide, zoom):
    save_grid(torch.rand(count, 1, 4, 3), "grid.png", columns=columns, zoom=zoom)
    height, width, _ = read("grid.png").shape
    assert height == rows * (4 * zoom + BORDER) + BORDER
    assert width == wide * (3 * zoom + BORDER) + BORDER


@pytest.mark.parametrize("zoom", [1, 2])
def test_samples_are_put_row_by_row_with_their_pixels(zoom):
    samples = torch.randint(0, 256, (5, 3, 4, 3))
    save_grid(samples / 255, "grid.png", columns=2, zoom=zoom)
    pixels = read("grid.png")
    for number, sample in enumerate(samples):
        enlarged = sample.permute(1, 2, 0).repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
        assert torch.equal(cell(pixels, number // 2, number % 2, (4, 3), zoom).long(), enlarged)


def test_the_border_is_neither_black_nor_white():
    save_grid(flat(0.0, 1.0), "grid.png")
    pixels = read("grid.png").float()
    for border in (pixels[:BORDER], pixels[-BORDER:], pixels[:, :BORDER], pixels[:, -BORDER:]):
        assert (border - 127.5).abs().max() < 1


@pytest.mark.parametrize(
    ("sample_range", "samples", "pixels"),
    [
        ((0.0, 1.0), [0.0, 0.2, 1.0], [0, 51, 255]),
        ((-1.0, 1.0), [-1.0, -0.6, 1.0], [0, 51, 255]),
        ((0.0, 255.0), [0.0, 51.0, 255.0], [0, 51, 255]),
        ((0.0, 1.0), [-5.0, 0.2, 5.0], [0, 51, 255]),  # what lies outside is clipped
        (None, [0.0, 0.2, 1.0], [0, 51, 255]),
        (None, [0.4, 0.2, 0.6], [102, 51, 153]),
        (None, [-1.0, -0.6, 1.0], [0, 51, 255]),
        (None, [-0.2, 0.2, 0.6], [102, 153, 204]),
        (None, [-2.0, -1.0, 3.0], [0, 51, 255]),  # standardised, for example
        (None, [-math.inf, -1.0, 4.0], [0, 0, 255]),
    ],
)
def test_the_range_says_what_is_black_and_white(sample_range, samples, pixels):
    save_grid(flat(*samples), "grid.png", sample_range=sample_range)
    drawn = read("grid.png")
    for column, wanted in enumerate(pixels):
        assert (cell(drawn, 0, column, (4, 3), 2) == wanted).all()


def test_bytes_are_drawn_as_they_are():
    save_grid(flat(0, 51, 200).to(torch.uint8), "grid.png")
    for column, wanted in enumerate([0, 51, 200]):
        assert (cell(read("grid.png"), 0, column, (4, 3), 2) == wanted).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16])
def test_samples_of_every_type_are_drawn(dtype):
    save_grid(flat(0, 128, 255).to(dtype), "grid.png", sample_range=(0.0, 255.0))
    drawn = read("grid.png")
    for column, wanted in enumerate(flat(0, 128, 255).to(dtype)[:, 0, 0, 0].double().clamp(max=255).tolist()):
        assert (cell(drawn, 0, column, (4, 3), 2) == wanted).all()


def test_samples_with_a_graph_are_drawn_and_left_as_they_were():
    samples = torch.rand(2, 1, 4, 3, requires_grad=True)
    before = samples.detach().clone()
    save_grid(samples, "grid.png")
    assert torch.equal(samples, before)
    assert samples.requires_grad


def test_one_sample_alone_is_drawn():
    save_grid(flat(1.0), "grid.png", zoom=3)
    assert (read("grid.png") == 255).sum() == 3 * (4 * 3) * (3 * 3)


def test_folders_are_made_and_a_picture_is_written_over():
    for grey in (0.0, 1.0):
        save_grid(flat(grey, grey), "a/new/folder/grid.png")
    assert (cell(read("a/new/folder/grid.png"), 0, 0, (4, 3), 2) == 255).all()


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 2, 4, 3), (2, 784), (0, 1, 4, 3), (2, 1, 0, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ShapeError) as refusal:
        save_grid(torch.rand(shape), "grid.png")
    assert str(refusal.value) == f"samples must be pictures (N, 1 or 3, H, W), got {shape}"
    assert not Path("grid.png").exists()


@pytest.mark.parametrize("argument", ["columns", "zoom"])
@pytest.mark.parametrize("value", [0, -1])
def test_impossible_grids_are_refused(argument, value):
    with pytest.raises(BadValueError, match=f"^{argument} must be above 0, got {value}$"):
        save_grid(flat(0.0, 1.0), "grid.png", **{argument: value})


# --- animations ------------------------------------------------------------------------------------------


def frames(count):
    """Pictures that all differ."""
    paths = [f"frame_{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        save_grid(flat(number / count, 1 - number / count), path)
    return paths


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_animation_has_every_frame_in_order(count):
    paths = frames(count)
    save_animation(paths, "a/new/folder/all.gif")
    with Image.open("a/new/folder/all.gif") as animation:
        assert getattr(animation, "n_frames", 1) == count
        for number, path in enumerate(paths):
            animation.seek(number)
            shown = torch.frombuffer(bytearray(animation.convert("RGB").tobytes()), dtype=torch.uint8)
            assert (shown.int() - read(path).flatten().int()).abs().max() <= 1


def test_frames_stand_as_long_as_asked_and_the_last_one_for_two_seconds():
    save_animation(frames(3), "all.gif", milliseconds=120)
    durations = []
    with Image.open("all.gif") as animation:
        for number in range(3):
            animation.seek(number)
            durations.append(animation.info["duration"])
        assert animation.info["loop"] == 0  # for ever
    assert durations == [120, 120, 2000]


def test_an_animation_without_frames_is_refused():
    with pytest.raises(DataError, match="^frames must be one or more pictures, got none$"):
        save_animation([], "all.gif")


# --- curves ----------------------------------------------------------------------------------------------

HISTORY = [
    {"step": 1, "discriminator_loss": 1.4, "generator_loss": 0.7, "real_score": 0.6, "fake_score": 0.4},
    {"step": 2, "discriminator_loss": 1.2, "generator_loss": 0.9, "real_score": 0.7, "fake_score": 0.3},
]
CURVES = ["discriminator loss", "generator loss", "real score", "fake score"]


def words(path):
    """The words that stand in a vector picture."""
    return set(re.findall(r"<!-- (.*?) -->", Path(path).read_text()))


def test_curves_are_a_picture():
    save_curves(HISTORY, "a/new/folder/curves.png")
    content = Path("a/new/folder/curves.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (8 * 120, 5 * 120)  # inches times dots an inch


def test_curves_may_be_a_vector_picture_with_every_name():
    save_curves(HISTORY, "curves.svg")
    assert words("curves.svg") >= {*CURVES, "losses", "D(x), D(G(z))", "steps"}


def test_each_head_has_curves_of_its_own_beside_the_sum():
    heads = {"generator_loss/head0": 0.1, "generator_loss/head10": 0.2, "fake_score/head0": 0.4, "penalty/head0": 1.0}
    save_curves([row | heads for row in HISTORY], "curves.svg")
    shown = words("curves.svg")
    assert shown >= {*CURVES, "generator loss/head0", "generator loss/head10", "fake score/head0"}
    assert "penalty/head0" not in shown


@pytest.mark.parametrize("missing", CURVES)
def test_what_the_history_does_not_have_is_not_drawn(missing):
    key = missing.replace(" ", "_")
    without = [{name: value for name, value in row.items() if name != key} for row in HISTORY]
    save_curves(without, "without.svg")
    save_curves([row | {key: None} for row in HISTORY], "none.svg")
    for path in ("without.svg", "none.svg"):
        assert words(path) & set(CURVES) == set(CURVES) - {missing}


def test_rows_that_lack_a_value_are_passed_over():
    save_curves([*HISTORY, {"step": 3, "real_score": 0.8}], "curves.svg")
    assert words("curves.svg") >= set(CURVES)


def test_a_history_of_nothing_is_refused_and_one_of_other_names_gives_empty_axes():
    with pytest.raises(DataError, match="history must have the metrics of one or more steps, got none"):
        save_curves([], "curves.svg")
    assert not Path("curves.svg").exists()
    save_curves([{"step": 1, "another": 2.0}], "curves.svg")
    assert not words("curves.svg") & set(CURVES)


@pytest.mark.parametrize(
    ("count", "most", "drawn"), [(5, 5, [0, 1, 2, 3, 4]), (7, 4, [0, 2, 4, 6]), (9, 2, [0, 8]), (6, 1, [5])]
)
def test_an_animation_of_many_frames_takes_some_at_equal_distances(count, most, drawn):
    for number in range(count):
        save_grid(flat(number / 10), f"{number}.png")
    save_animation([f"{number}.png" for number in range(count)], "all.gif", most_frames=most)
    with Image.open("all.gif") as animation:
        shown = []
        for index in range(getattr(animation, "n_frames", 1)):
            animation.seek(index)
            shown.append(round(animation.convert("L").getpixel((4, 4)) / 25.5))
    assert shown == drawn


# --- where it cannot be done -----------------------------------------------------------------------------

WRITERS = {
    "grid.png": lambda path: save_grid(flat(0.0, 1.0), path),
    "all.gif": lambda path: save_animation(frames(2), path),
    "curves.png": lambda path: save_curves(HISTORY, path),
}
EVERY_WRITER = pytest.mark.parametrize(("name", "write"), WRITERS.items())


@EVERY_WRITER
def test_a_path_under_a_file_is_refused_with_the_path(name, write):
    Path("file").write_text("in the way")
    path = Path("file") / name
    with pytest.raises(OutputError) as refusal:
        write(path)
    assert str(refusal.value).startswith(f"the picture must be writable, got {str(path)!r}: ")
    assert isinstance(refusal.value.__cause__, OSError)


@EVERY_WRITER
def test_a_folder_in_the_place_of_the_file_is_refused(name, write):
    Path(name).mkdir()
    with pytest.raises(OutputError, match=f"^the picture must be writable, got {re.escape(repr(name))}: "):
        write(name)


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.figure"])
def test_curves_without_matplotlib_say_what_to_install(monkeypatch, module):
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"^curves need matplotlib: pip install 'gankit\[plots\]'$"):
        save_curves(HISTORY, "curves.png")
    assert not Path("curves.png").exists()


@pytest.mark.parametrize("write", [WRITERS["grid.png"], lambda path: save_animation(["frame.png"], path)])
def test_pictures_without_pillow_say_what_to_install(monkeypatch, write):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="^pictures need pillow: pip install pillow$"):
        write("picture.png")


# --- points and panels -----------------------------------------------------------------------------------

SQUARE = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


def count_of(pixels, colour, tolerance=40):
    """How many pixels are nearly of this colour."""
    return int(((pixels.int() - torch.tensor(colour)).abs().amax(-1) < tolerance).sum())


ORANGE, GREY = (255, 127, 14), (140, 140, 140)


def test_generated_points_are_orange_over_grey_real_ones():
    cloud = torch.randn(500, 2)
    save_points(cloud, torch.zeros(1, 2) + 100, "real.png")  # the generated one lies outside of the frame
    save_points(cloud, cloud + 0.05, "both.png")
    real, both = read("real.png"), read("both.png")
    assert count_of(real, ORANGE, 20) == 0
    assert count_of(real, GREY, 20) > 100
    assert count_of(both, ORANGE) > 100


def test_the_frame_is_that_of_the_real_points():
    save_points(SQUARE, SQUARE, "near.png", title="a step")
    save_points(SQUARE, torch.cat([SQUARE, SQUARE * 50]), "far.png", title="a step")
    assert torch.equal(read("near.png"), read("far.png"))


def test_the_logit_is_blue_where_it_is_high_and_red_where_it_is_low():
    save_points(SQUARE, SQUARE, "rising.png", logits=lambda x: x[:, 0])
    pixels = read("rising.png").float()
    height, width, _ = pixels.shape
    left, right = pixels[height // 2, width // 4], pixels[height // 2, 3 * width // 4]
    assert left[0] > left[2]
    assert right[2] > right[0]


def test_the_logit_is_not_turned_around():
    save_points(SQUARE, SQUARE, "rising.png", logits=lambda x: x[:, 1])
    pixels = read("rising.png").float()
    height, width, _ = pixels.shape
    upper, lower = pixels[height // 4, width // 2], pixels[3 * height // 4, width // 2]
    assert upper[2] > upper[0]
    assert lower[0] > lower[2]


@pytest.mark.parametrize(
    ("logits", "got"),
    [
        (lambda x: x.repeat(1, 3), r"\(6400, 6\)"),
        (lambda x: Answer(heads=(x[:, 0], x[:, 1])), "Answer"),
    ],
    ids=["several", "heads"],
)
def test_logits_that_are_not_one_number_for_each_point_are_refused(logits, got):
    with pytest.raises(ShapeError, match=f"logits must return one number for each of 6400 points, got {got}; of"):
        save_points(SQUARE, SQUARE, "points.png", logits=logits)
    assert not Path("points.png").exists()
    D = Discriminator(logits)
    save_points(SQUARE, SQUARE, "points.png", logits=StepContext(discriminator=D).sample_logits)


class Discriminator(torch.nn.Module):
    """A module whose forward pass is a function of points; several numbers are a head with positions."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        found = self.function(x)
        return found if isinstance(found, Answer) else Answer(heads=(found,))


@pytest.mark.parametrize("logits", [lambda x: torch.full((len(x),), torch.nan), lambda x: torch.zeros(len(x))])
@pytest.mark.filterwarnings("ignore:No contour levels were found:UserWarning")
def test_a_discriminator_that_has_diverged_or_says_nothing_is_drawn(logits):
    save_points(SQUARE, torch.full((3, 2), torch.nan), "points.png", logits=logits)


@pytest.mark.parametrize("points", [torch.zeros(3), torch.zeros(3, 3), torch.zeros(0, 2), torch.zeros(2, 1, 2, 2)])
def test_what_is_not_in_the_plane_is_refused(points):
    with pytest.raises(ShapeError, match=r"^generated must be points \(N, 2\), got "):
        save_points(SQUARE, points, "points.png")
    with pytest.raises(ShapeError, match=r"^real must be points \(N, 2\), got "):
        save_points(points, SQUARE, "points.png")


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 4, 2)])
def test_panels_stand_four_a_row(count, columns, rows):
    save_panels({str(number): SQUARE for number in range(count)}, "panels.png", real=SQUARE)
    height, width, _ = read("panels.png").shape
    assert (width, height) == (300 * columns, 320 * rows)


def test_panels_of_pictures_show_their_pixels():
    black, white = torch.zeros(20, 1, 8, 8), torch.ones(20, 3, 8, 8)
    save_panels({"black": black, "white": white}, "panels.png")
    pixels = read("panels.png")
    assert count_of(pixels[:, :300], (0, 0, 0)) > 10_000
    assert count_of(pixels[:, 300:], (0, 0, 0)) < 5_000


def test_no_panels_and_panels_of_nothing_are_refused():
    with pytest.raises(DataError, match="panels must be one or more"):
        save_panels({}, "panels.png")
    with pytest.raises(ShapeError):
        save_panels({"volumes": torch.zeros(2, 1, 4, 4, 4)}, "panels.png")


def test_the_ending_is_checked_without_a_figure(monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure", None)
    endings = [writes(f"points.{one}", as_figure=True) for one in ("png", "SVG", "xyz")]
    assert endings == [True, True, False]
    assert not writes("points", as_figure=True)


def test_an_array_that_cannot_be_written_is_called_an_array():
    Path("file").write_text("")
    for path in ("file/samples.NPY", "file/samples.npy"):
        with pytest.raises(OutputError, match="the array must be writable, got 'file/samples"):
            save_array(SQUARE, path)


def test_points_need_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"point clouds need matplotlib: pip install 'gankit\[plots\]'"):
        save_points(SQUARE, SQUARE, "points.png")
