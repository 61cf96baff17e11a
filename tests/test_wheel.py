"""The wheel in another environment, beside a third-party package that brings a loss by entry point."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

THIRD_PARTY = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "ganplus"
version = "1.0"
[project.entry-points."gankit.losses"]
plus = "ganplus:Plus"
""",
    "ganplus.py": '''
class Plus:
    """Plus: a loss from another package (Nobody 2026)."""

    needs_real_logits = False

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def discriminator_loss(self, real_logits, fake_logits):
        return (self.margin - real_logits).relu() + (self.margin + fake_logits).relu()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits
''',
}

EVALUATION = """
import torch
from gankit.metrics import MnistEvaluator
evaluate = MnistEvaluator()
print(evaluate(torch.rand(evaluate.samples, 1, 28, 28))["mnist_classes"].real)
"""


@pytest.mark.slow
def test_the_wheel_lists_and_trains_with_a_loss_from_another_package(tmp_path):
    def run(*command: object) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    plugin = tmp_path / "ganplus"
    plugin.mkdir()
    for name, text in THIRD_PARTY.items():
        (plugin / name).write_text(text)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", ROOT, plugin)
    (wheel,) = (tmp_path / "wheels").glob("gankit-*.whl")
    # neither tests, benchmarks nor tools
    files = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"gankit"}
    for digits in ("mnist_5k", "mnist_test_2k"):
        assert [name for name in files if name.endswith(f"licenses/gankit/data/{digits}/NOTICE")]
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # torch comes from the environment of the tests, as a plain path: its editable gankit does not come along
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "torch_from_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", *(tmp_path / "wheels").glob("*.whl"))

    assert str(site) in run(python, "-c", "import gankit; print(gankit.__file__)")
    gankit = tmp_path / "venv" / "bin" / "gankit"
    assert ", plus, " in run(gankit, "list")
    assert run(gankit, "list", "losses", "pl*") == "plus  Plus: a loss from another package (Nobody 2026).\n"
    options = ["--device", "cpu", "--steps", "3", "--no-progress", "--out", "run"]
    run(gankit, "train", "vanilla_mnist", "--loss", "plus:margin=2", *options)
    assert (tmp_path / "run" / "generator.safetensors").exists()
    assert run(python, "-c", EVALUATION) == "10.0\n"
