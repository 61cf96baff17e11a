"""`gankit sample`: pictures, arrays and rows of samples from a finished run, and never over a file."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from gankit.cli import main
from gankit.errors import GankitWarning
from gankit.runs import Run
from gankit.runs.samples import interpolated

TINY = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of some small runs."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = [*TINY, "--steps", "1", "--no-progress", "--checkpoint-every-steps", "0"]
    for name, arguments in {
        "run": ["vanilla_mnist"],
        "points": ["ring"],
        "replicas": ["vanilla_mnist", "--replicas", "2"],
        "classes": ["vanilla_mnist", "--num-classes", "10"],
    }.items():
        assert main(["train", *arguments, *tiny, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(runs):
    for one in runs.iterdir():
        Path(one.name).symlink_to(one)


def array(run, *arguments, out="samples.npy"):
    assert main(["sample", run, *arguments, "--out", out, "--force"]) == 0
    return numpy.load(out)


def one_sentence(capsys, *arguments):
    """Return the error of `gankit sample`, which has written nothing."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert main(["sample", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert error.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return error


# --- where the samples go --------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--force", "--overwrite"])
def test_an_existing_picture_is_kept_unless_asked_for(flag, capsys):
    Path("grid.png").write_text("mine")
    assert "got 'grid.png'; name another, or add --force" in one_sentence(capsys, "run", "--out", "grid.png")
    assert Path("grid.png").read_text() == "mine"
    assert main(["sample", "run", "--out", "grid.png", flag]) == 0
    assert Path("grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("run", "given", "written"), [
    ("run", "grid", "grid.png"),
    ("points", "cloud", "cloud.png"),
    ("run", "new/folder/GRID.PNG", "new/folder/GRID.PNG"),
    ("run", "grid.jpg", "grid.jpg"),
    ("points", "cloud.svg", "cloud.svg"),
    ("points", "CLOUD.NPY", "CLOUD.NPY"),
    ("run", "~/grid.png", "home/grid.png"),
])  # fmt: skip
def test_the_ending_says_what_is_written_and_png_is_added(run, given, written, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "home")
    assert main(["sample", run, "--count", "4", "--out", given]) == 0
    assert capsys.readouterr().out.strip() == written
    assert Path(written).stat().st_size
    assert "got" in one_sentence(capsys, run, "--count", "4", "--out", given)  # the name with the ending counts


def test_a_run_in_the_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert main(["sample", "~/run", "--count", "4"]) == 0


@pytest.mark.parametrize("out", ["there", "new/"])
def test_a_folder_gets_a_file_for_each_picture(out, capsys):
    Path("there").mkdir()
    Path("there", "mine.txt").write_text("mine")
    assert main(["sample", "run", "--count", "3", "--out", out]) == 0
    names = sorted(path.name for path in Path(out).glob("*.png"))
    assert names == ["0000.png", "0001.png", "0002.png"]
    samples = torch.from_numpy(array("run", "--count", "3"))
    with Image.open(Path(out, "0001.png")) as picture:
        assert (picture.mode, picture.size) == ("L", (28, 28))
        assert torch.equal(torch.from_numpy(numpy.array(picture)), samples[1, 0].mul(255).round().byte())
    assert "0000.png', which exists" in one_sentence(capsys, "run", "--count", "3", "--out", out)


@pytest.mark.parametrize(
    ("run", "arguments", "says"),
    [
        ("run", ["--out", ""], "--out must be the name of a file or a folder, got ''"),
        ("run", ["--out", "grid.xyz"], "to .npy, .png or another kind of picture that Pillow writes, got 'grid.xyz'"),
        ("run", ["--out", "grid.svg"], "that Pillow writes, got 'grid.svg'"),
        ("points", ["--out", "cloud.xyz"], "that matplotlib writes, got 'cloud.xyz'"),
        ("points", ["--out", "new/"], "points are drawn in one picture, which needs a file, got the folder 'new'"),
        ("run", ["--out", "x" * 300 + ".png"], "the picture must be writable"),
        ("run", ["--seed", "9" * 30], "seed must be from"),
        ("run", ["--count", "0"], "count must be above 0, got 0"),
        ("run", ["--count", "1000000000"], "for which the memory of cpu suffices, got 1000000000"),
        ("run", ["--device", "cuda:77"], "device must be one this machine has"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(run, arguments, says, capsys):
    assert says in one_sentence(capsys, run, *arguments)


def test_a_grid_that_is_too_large_for_its_kind_of_picture_is_one_sentence(capsys):
    assert "the picture must be writable" in one_sentence(capsys, "run", "--count", "2400", "--out", "grid.webp")


# --- which samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["run", "points", "replicas", "classes"])
def test_another_count_gives_the_same_first_samples(run):
    many = array(run, "--count", "70", "--seed", "5")
    for count in (1, 2, 7, 64, 65):
        numpy.testing.assert_allclose(array(run, "--count", str(count), "--seed", "5"), many[:count], atol=1e-5)


@pytest.mark.parametrize("ending", [".npy", ".pt"])
def test_latents_of_ones_own(ending):
    z = torch.randn(5, 10, dtype=torch.float64)
    if ending == ".npy":
        numpy.save("latents.npy", z.numpy())
    else:
        torch.save(z, "latents.pt")
    samples = torch.from_numpy(array("run", "--latents", f"latents{ending}"))
    generator = Run.open("run").load_trainer().generator.eval()
    torch.testing.assert_close(samples, generator(z.float()).detach())
    assert array("replicas", "--latents", f"latents{ending}").shape == (10, 1, 28, 28)


def test_rows_lead_from_one_latent_to_the_next():
    torch.save(torch.randn(3, 10), "latents.pt")
    ends = array("run", "--latents", "latents.pt")
    rows = array("run", "--latents", "latents.pt", "--interpolate", "5")
    numpy.testing.assert_allclose(rows[[0, 4, 5, 9]], ends[[0, 1, 1, 2]], atol=1e-5)
    assert array("run", "--interpolate", "8").shape == (64, 1, 28, 28)
    numpy.testing.assert_allclose(
        array("run", "--interpolate", "4", "--count", "12"), array("run", "--interpolate", "4")[:12], atol=1e-5
    )
    assert array("replicas", "--interpolate", "4", "--count", "8").shape == (16, 1, 28, 28)
    assert main(["sample", "classes", "--interpolate", "6", "--out", "rows.png"]) == 0
    with Image.open("rows.png") as picture:
        assert picture.size[0] == 6 * (56 + 2) + 2  # a row of the grid is a row of the interpolation


def test_between_standard_normal_latents_there_are_standard_normal_ones():
    z = torch.randn(2001, 10, generator=torch.Generator().manual_seed(0))
    rows = interpolated(z, 5, keeps_norm=True).view(2000, 5, 10)
    torch.testing.assert_close(rows.std((0, 2)), torch.ones(5), atol=0.02, rtol=0)
    torch.testing.assert_close(rows[:, 0], z[:-1])
    assert interpolated(z, 5, keeps_norm=False).view(2000, 5, 10)[:, 2].std() < 0.8


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("z.txt", b"1 2", "must be in a file that ends in .npy or .pt, got 'z.txt'"),
        ("z.npy", b"no array", "z.npy must hold latents"),
        ("z.npy", None, "z.npy must hold latents"),
        ("z.pt", saved({"z": torch.zeros(2)}), "z.pt must hold latents, .*: it holds dict without numbers"),
        ("z.pt", saved(torch.zeros(0, 10)), "without numbers"),
        ("z.pt", saved(torch.full((2, 10), float("nan"))), "it holds NaN or infinity"),
        ("z.pt", saved(torch.zeros(2, 7)), r"latents must have the shape \(N, \*\(10,\)\), got \(2, 7\)"),
    ],
)  # fmt: skip
def test_what_are_no_latents_is_one_sentence(name, content, says, capsys):
    if content is not None:
        Path(name).write_bytes(content)
    error = one_sentence(capsys, "run", "--latents", name)
    assert re.search(says, error)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "2", "--latents", "z.pt"], "count must be left out beside latents of one's own, got 2"),
        (["--count", "7", "--interpolate", "3"], "count must be a multiple of the 3 samples in a row, got 7"),
        (["--interpolate", "1"], "interpolate must be 2 or more"),
        (["--latents", "z.pt", "--interpolate", "3"], "latents must be 2 or more to interpolate between, got 1"),
    ],
)
def test_arguments_that_exclude_each_other_are_one_sentence(arguments, says, capsys):
    torch.save(torch.zeros(1, 10), "z.pt")
    assert says in one_sentence(capsys, "run", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
@pytest.mark.parametrize("execution", ["auto", "compile+cuda_graph"])
def test_a_run_that_was_made_on_a_gpu_can_be_sampled_without_one(execution, runs):
    shutil.copytree(runs / "run", "made_on_a_gpu")
    recipe = Path("made_on_a_gpu/recipe.json")
    form = (
        recipe.read_text()
        .replace('"device": "cpu"', '"device": "cuda"')
        .replace('"execution": "auto"', f'"execution": "{execution}"')
    )
    recipe.write_text(form.replace('"precision": "float32"', '"precision": "tf32"'))
    assert '"tf32"' in recipe.read_text()
    with pytest.warns(GankitWarning, match="made on 'cuda', which this machine lacks, .* generated on the CPU"):
        samples = array("made_on_a_gpu", "--count", "2")
    numpy.testing.assert_array_equal(samples, array("run", "--count", "2"))
    array("made_on_a_gpu", "--count", "2", "--device", "cpu")
