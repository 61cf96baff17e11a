from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from gankit.cli import REGISTRIES, main

TINY = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "16", "--device", "cpu"]


def train(*options: str) -> int:
    return main(["train", "vanilla_mnist", *TINY, "--steps", "4", "--no-progress", "--out", "run", *options])


def recipe() -> dict:
    return json.loads(Path("run/recipe.json").read_text())


def test_train_writes_a_run_and_sample_draws_from_it(capsys):
    assert train() == 0
    assert "4 of 4 steps done" in capsys.readouterr().out
    assert main(["sample", "run", "--count", "16", "--out", "grid.png"]) == 0
    with Image.open("grid.png") as grid:
        assert grid.width > 8 * 28


def test_the_default_folder_is_named_after_preset_and_time():
    assert main(["train", "vanilla_mnist", *TINY, "--steps", "1", "--no-progress"]) == 0
    (folder,) = Path("runs/vanilla_mnist").iterdir()
    assert (folder / "generator.safetensors").exists()


def test_parts_and_numbers_reach_the_recipe():
    options = "--loss minimax --regularizer r1:every=2 --regularizer weight_clipping --latent uniform:latent_dim=5 "
    options += "--generator-optimizer sgd:lr=0.1 --seed 3 --averaging-decay 0.9 --discriminator-steps 2"
    assert train(*options.split()) == 0
    preset = recipe()["preset"]
    assert preset["loss"] == {"name": "minimax"}
    assert preset["regularizers"] == [{"name": "r1", "every": 2}, {"name": "weight_clipping"}]
    assert preset["latent"] == {"name": "uniform", "latent_dim": 5}
    assert preset["generator_optimizer"] == {"name": "sgd", "lr": 0.1}
    assert preset["discriminator_steps"] == 2
    assert recipe()["seed"] == 3
    assert Path("run/averaged_generator.safetensors").exists()


def test_a_schedule_of_losses_is_the_loss_given_twice():
    assert train("--loss", "non_saturating", "--loss", "minimax@2") == 0
    schedule = recipe()["preset"]["loss"]
    assert schedule == {"schedule": {"0": {"name": "non_saturating"}, "2": {"name": "minimax"}}}


def test_a_conditional_run_samples_class_after_class():
    assert train("--num-classes", "10") == 0
    assert main(["sample", "run", "--count", "20", "--out", "digits.png"]) == 0


def test_the_progress_bar_shows_losses_scores_and_speed(capsys):
    arguments = ["train", "vanilla_mnist", *TINY, "--steps", "20", "--log-every-steps", "5", "--out", "run"]
    assert main(arguments) == 0
    shown = capsys.readouterr().err
    for word in ("20/20", "D loss", "G loss", "D(x)", "D(G(z))", "step/s"):
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "vanila_mnist"], "unknown preset 'vanila_mnist'. Did you mean 'vanilla_mnist'?"),
        (["train", "vanilla_mnist", "--loss", "minmax"], "unknown loss 'minmax'. Did you mean 'minimax'?"),
        (
            ["train", "vanilla_mnist", "--generator", "mlp:hiden_dim=3"],
            "got an unexpected argument 'hiden_dim'. Did you mean 'hidden_dim'?",
        ),
        (["train", "vanilla_mnist", "--device", "gpu"], "device must be one torch knows"),
        (["train", "vanilla_mnist", "--steps", "0"], "steps must be above 0, got 0"),
        (["train", "vanilla_mnist", "--root", "x"], "--root is for a data set that has one, got it with 'mnist_5k'"),
        (["train", "vanilla_mnist", "--data", "image_folder", "--root", "nowhere"], "which is not there"),
        (["train", "vanilla_mnist", "--loss", "minimax", "--loss", "non_saturating"], "needs the step at which each"),
        (["train", "vanilla_mnist", "--out", "file/run"], "the run's folder must be writable, got 'file/run'"),
        (["sample", "nowhere"], "must hold recipe.json, got 'nowhere' without one"),
        (["show", "losses", "minmax"], "Did you mean 'minimax'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_run(arguments, says, capsys):
    Path("file").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert says in error
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["mlp:hidden_dim", "mlp:=3", "mlp:a=1,a=2", "mlp:"])
def test_a_part_that_cannot_be_read_is_refused(text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "vanilla_mnist", "--generator", text])
    assert caught.value.code == 2
    assert f"cannot read {text!r}" in capsys.readouterr().err


def test_a_toy_problem_is_trained_counted_and_drawn(capsys):
    options = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]"]
    assert main(["train", "ring", *options, "--steps", "2", "--no-progress", "--device", "cpu", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert " of 8, " in said
    assert "gankit sample run --out samples.png" in said
    assert main(["sample", "run"]) == 0
    with Image.open("samples.png") as picture:
        assert picture.width == 500


def test_an_existing_picture_is_kept_unless_asked_for(capsys):
    train()
    Path("grid.png").write_text("mine")
    assert main(["sample", "run", "--out", "grid.png"]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert Path("grid.png").read_text() == "mine"
    assert main(["sample", "run", "--out", "grid.png", "--overwrite"]) == 0


@pytest.mark.parametrize("option", [["--seed", "9" * 30], ["--out", "x" * 300 + ".png"]], ids=["seed", "out"])
def test_a_sample_that_cannot_be_drawn_is_one_sentence(option, capsys):
    train()
    capsys.readouterr()
    assert main(["sample", "run", *option]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert error.count("\n") == 1


def test_list_names_every_registry_and_every_part(capsys):
    assert main(["list"]) == 0
    everything = capsys.readouterr().out
    for kind, registry in REGISTRIES.items():
        assert kind in everything
        assert all(name in everything for name in registry.names())


@pytest.mark.parametrize("kind", REGISTRIES)
def test_list_gives_each_part_a_line(kind, capsys):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == REGISTRIES[kind].names()
    assert all(len(line.split()) > 1 for line in lines)


def test_list_takes_a_pattern(capsys):
    main(["list", "losses", "non*"])
    assert capsys.readouterr().out.splitlines()[0].startswith("non_saturating ")


def test_show_gives_arguments_and_documentation(capsys):
    assert main(["show", "regularizers", "r1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("r1(weight: float = 10.0, every: int = 1)")
    assert "Mescheder et al. 2018" in shown


def test_the_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "gankit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gankit 0.")


def test_ctrl_c_ends_the_run_cleanly_with_everything_written():
    command = [sys.executable, "-m", "gankit", "train", "vanilla_mnist", *TINY, "--steps", "1000000", "--out", "run"]
    command += ["--log-every-steps", "5"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    metrics = Path("run/metrics.jsonl")
    patience = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping after this step" in err
    assert "Traceback" not in err
    assert "of 1000000 steps done" in out
    assert all(json.loads(line)["step"] for line in metrics.read_text().splitlines())
    assert Path("run/curves.png").exists()
    assert main(["sample", "run", "--out", "grid.png"]) == 0


def test_replicas_report_means_and_standard_deviations(capsys):
    small = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "8"]
    command = ["train", "vanilla_mnist", *small, "--replicas", "3", "--steps", "4", "--log-every-steps", "2"]
    assert main([*command, "--no-progress", "--device", "cpu", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "mean ± standard deviation over 3 replicas:" in said
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert f"{rows[-1]['discriminator_loss']:.4f} ± {rows[-1]['discriminator_loss/sd']:.4f}" in said
    assert main(["sample", "run", "--count", "7", "--out", "grid.png"]) == 0
    assert Path("grid.png").exists()


def test_ways_to_run_a_step_are_options(capsys):
    small = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "8", "--steps", "2"]
    options = ["--execution", "eager", "--share-generator-forward", "--concatenate-discriminator-passes"]
    command = ["train", "vanilla_mnist", *small, *options, "--learning-rate-decay", "--no-progress", "--device", "cpu"]
    assert main([*command, "--out", "run"]) == 0
    preset = json.loads(Path("run/recipe.json").read_text())["preset"]
    assert preset["execution"] == "eager"
    for name in ("share_generator_forward", "concatenate_discriminator_passes", "learning_rate_decay"):
        assert preset[name] is True
    assert main(["train", "vanilla_mnist", *small, "--execution", "cuda_graph", "--device", "cpu", "--out", "no"]) == 2
    assert "execution 'cuda_graph' needs a CUDA device, got 'cpu'" in capsys.readouterr().err


def test_an_unknown_option_is_one_line_whatever_it_holds(capsys):
    with pytest.raises(SystemExit):
        main(["train", "ring", "--name", "a\nb"])
    assert capsys.readouterr().err.splitlines()[-1] == "gankit: error: unrecognized arguments: --name a b"
