"""`gankit train`: what its flags change, and what it writes and prints."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from pathlib import Path

import pytest
from PIL import Image

from gankit.cli import main
from gankit.presets import ring
from gankit.runs import Run

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


def test_a_recipe_can_be_without_the_regularizers_of_the_preset():
    assert ring.regularizers
    assert main(["train", "ring", "--regularizer", "none", "--steps", "1", "--no-progress", "--out", "run"]) == 0
    assert json.loads(Path("run/recipe.json").read_text())["preset"]["regularizers"] == []


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
    assert "captured_modes" in said
    assert "gankit sample run --out samples.png" in said
    assert main(["sample", "run"]) == 0
    with Image.open("samples.png") as picture:
        assert picture.width == 500


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_cleanly_with_everything_written(number, code, capsys):
    """The signal arrives in this process; tests/faults/test_signals.py sends one to `python -m gankit`."""
    metrics = Path("run/metrics.jsonl")

    ended = threading.Event()

    def send_signal():
        while not ended.wait(0.01):
            if metrics.exists() and metrics.read_text():
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=send_signal)
    thread.start()
    options = ["--steps", "100000", "--log-every-steps", "5", "--out", "run"]
    try:
        assert main(["train", "vanilla_mnist", *TINY, *options]) == code
    finally:
        ended.set()
        thread.join()
    out, err = capsys.readouterr()
    assert "stopping after this step" in err
    assert "Traceback" not in err
    assert "of 100000 steps done" in out
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


def test_flags_turn_off_what_a_preset_turns_on(capsys):
    small = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]", "--steps", "1"]
    command = ["train", "ring", *small, "--no-progress", "--device", "cpu", "--out", "run"]
    assert main([*command, "--averaging-decay", "none", "--no-learning-rate-decay"]) == 0
    assert recipe()["preset"]["averaging_decay"] is None
    assert recipe()["preset"]["learning_rate_decay"] is False
    assert not Path("run/averaged_generator.safetensors").exists()
    assert main(["train", "--resume", "run", "--averaging-decay", "0.9"]) == 2
    assert "averaging_decay 0.9 instead of None" in capsys.readouterr().err


def test_a_value_that_cannot_be_absent_is_no_none(capsys):
    with pytest.raises(SystemExit):
        main(["train", "ring", "--steps", "none"])
    assert "argument --steps: invalid int value: 'none'" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["two words", "it's; echo $HOME", "-run"])
def test_printed_commands_are_quoted_for_the_shell(folder, capsys, monkeypatch):
    build = Run.build_trainer

    def build_stopping(self, device=None):
        trainer = build(self, device)
        trainer.stop()
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(Run, "build_trainer", build_stopping)
        assert main(["train", "vanilla_mnist", *TINY, "--steps", "2", "--no-progress", f"--out={folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sample, resume = (shlex.split(next(one for one in lines if one.startswith(word))) for word in ("more", "continue"))
    assert main([*resume[2:], "--no-progress"]) == 0
    assert main(sample[2:]) == 0
    assert Path(folder, "checkpoints/step_0000002").is_dir()
