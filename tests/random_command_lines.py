"""Command lines at random, and whether they are obeyed or say why not."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from gankit.cli import REGISTRIES, main
from gankit.errors import GankitError
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS
from gankit.presets import PRESETS, Preset
from gankit.registry import Spec
from gankit.runs import Recipe, Run
from tests.random_recipes import STEPS, Draft, damaged_part, drafts, sound_drafts, sound_losses, sound_part

WORDS = ["a", "0", "-1", "1", "2", "nan", "inf", "1e400", "1.5", "ring", "vanilla_mnist", "run", "nowhere", "~nobody/x"]
PATTERNS = ["*", "[", "min*", "run/recipe.json", "--help", "--version", "--nothing", "--progress"]
PARTS = ["mlp", "mlp:", "mlp:=1", "a=1", "hinge+none", "hinge+r1:weight=1", "+", "hinge@x", "mlp:block=..."]
PARTS += [f"mlp:widths={{{inside}}}" for inside in ("1:2", "[]:2", "'name':'a',1:2", "1,2")]
LONG = ["9" * 30, "9" * 5000, "[" * 3000, "x" * 300, "mlp:widths=" + "[" * 3000, "mlp:hidden_dim=" + "9" * 5000]
words = st.sampled_from(["", *WORDS, *PATTERNS, *PARTS, *LONG])
CAN_BE_ABSENT = ["averaging_decay", "max_gradient_norm", "num_classes", "replicas", "check_every_steps", "device"]
QUICK = ["--steps", "2", "--no-progress", "--device", "cpu"]


def as_option(value: Any) -> str:
    try:
        return str(value)
    except GankitError:  # an argument without a JSON form
        return repr(value)


def options_of(draft: Draft) -> list[str]:
    """A recipe as the options of `gankit train`."""
    options: list[str] = []
    for name, value in {**draft.changes, **draft.options}.items():
        option = f"--{name.replace('_', '-')}"
        if name in ("sample_shape", "sample_range", "steps"):
            continue
        if value is None:
            options += [option, "none"] * (name in CAN_BE_ABSENT)
        elif isinstance(value, bool):
            options += [option if value else f"--no-{option[2:]}"]
        elif name == "loss" and isinstance(value, LossSchedule):
            options += [word for step, one in value.stages.items() for word in ("--loss", f"{as_option(one)}@{step}")]
        elif name == "regularizers":
            each = value if isinstance(value, tuple) else (value,)
            options += [word for one in each for word in ("--regularizer", as_option(one))]
        else:
            options += [option, as_option(value)]
    return options


@st.composite
def trainings(draw) -> list[str]:
    draft = draw(st.one_of(sound_drafts(), sound_drafts(), drafts()))
    return ["train", draft.preset, *options_of(draft), *QUICK]


@st.composite
def resumptions(draw) -> list[str]:
    folder = draw(st.sampled_from(["run", "run", "run", "unfinished", "unfinished", "empty", "nowhere", "file"]))
    options = ["--steps", draw(st.sampled_from(["1", "2", "3"])), "--no-progress"]
    options += draw(st.sampled_from([[], [], ["--override"], ["--out", "elsewhere"]]))
    if draw(st.integers(0, 2)) == 0:
        draft = draw(drafts())
        name = draw(st.sampled_from(sorted(draft.changes)))
        options += options_of(Draft("ring", {name: draft.changes[name]}))
    preset = draw(st.sampled_from([[], [], ["ring"], ["ring"], ["grid"]]))
    return ["train", *preset, "--resume", folder, *options]


@st.composite
def others(draw) -> list[str]:
    command = draw(st.sampled_from(["list", "show", "sample", "evaluate", "compare", "compare"]))
    if command in ("list", "show"):
        kind = draw(st.one_of(st.sampled_from([*REGISTRIES]), words))
        names = REGISTRIES[kind].names() if kind in REGISTRIES else ["a"]
        return [command, kind, draw(st.one_of(st.sampled_from(names), words))][: draw(st.integers(2, 3))]
    if command == "evaluate":
        run = draw(st.sampled_from(["run", "run", "unfinished", "empty", "nowhere"]))
        options = draw(st.sampled_from([[], ["--seed", "-1"], ["--root", "nowhere"], ["--device", "gpu"]]))
        return ["evaluate", run, *options]
    if command == "sample":
        run = draw(st.sampled_from(["run", "run", "unfinished", "empty", "nowhere"]))
        out = draw(st.sampled_from(["samples.png", "file", "file/x.png", "x.nothing", "x" * 300 + ".png"]))
        options = draw(st.sampled_from([[], ["--overwrite"], ["--count", "0"], ["--count", "1"], ["--device", "gpu"]]))
        seed = draw(st.sampled_from(["0", "0", "-1", "9" * 30]))
        return ["sample", run, "--out", out, "--seed", seed, *options]
    losses = [as_option(draw(st.one_of(sound_losses(), damaged_part(LOSSES)))) for _ in range(2)]
    losses += [draw(st.sampled_from(["", "+none", "+r1:every=2", "+weight_clipping+r1", "+a", ",minimax"]))]
    options = ["--loss", f"{losses[0]}{losses[2]}", "--loss", losses[1], "--batch-size", "4"]
    variants = [[], ["unchanged"], ["steps=1"], ["generator=mlp:widths=[4]"], ["hinge+steps=0"], ["a=1"], ["steps="]]
    options += [word for one in draw(st.sampled_from(variants)) for word in ("--variant", one)]
    options += ["--generator-optimizer", as_option(draw(sound_part(OPTIMIZERS, OPTIMIZERS.names())))]
    options += [*QUICK, "--seeds", draw(st.sampled_from(["1", "1", "0", "-1"])), "--out", "compared"]
    return ["compare", draw(st.sampled_from(["ring", "grid", "a"])), *options]


@st.composite
def command_lines(draw) -> list[str]:
    line = draw(st.one_of(trainings(), trainings(), resumptions(), resumptions(), others(), others()))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):  # a word too many, or another one
        place = draw(st.integers(0, len(line)))
        line = [*line[:place], draw(words), *line[place + draw(st.booleans()) :]]
    return line


def take_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time of so short a run."""
    patch.setattr(Run, "_pictures", lambda self, batches: None)
    patch.setattr(Run, "_draw_curves", lambda self: None)
    patch.setattr("gankit.compare.comparison.save_panels", lambda *args, **options: None)
    patch.setattr("gankit.runs.samples.save_points", lambda *args, **options: None)


@functools.cache
def runs() -> dict[str, bytes]:
    """The files of a run of two steps."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(preset=_small_ring(), device="cpu", checkpoint_every_steps=1)
        Run(Path(folder) / "run", recipe).train(progress=False)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _small_ring() -> Preset:
    ring = PRESETS.get("ring")
    assert isinstance(ring, Preset)
    changes = {"generator": Spec("mlp", widths=(4,), block="linear_relu"), "discriminator": Spec("mlp", widths=(4,))}
    return ring.replace(**changes, batch_size=4, steps=STEPS, learning_rate_decay=False)


@contextlib.contextmanager
def in_a_folder_with_runs():
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in runs().items():
            for run in ("run", "unfinished"):
                path = Path(name.replace("run", run, 1))
                # what an interruption leaves, before its first checkpoint
                if run == "run" or path.name == "recipe.json":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
        Path("empty").mkdir()
        Path("file").write_text("")
        yield


def try_command(line: list[str], *, pictures: bool = False) -> bool:
    """Tell whether a command did what it was requested; fail where it neither did nor said why not."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, in_a_folder_with_runs():
        if not pictures:
            take_out_pictures(patch)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = exit_code(line)
    assert code in (0, 2)
    if code:
        last = said.getvalue().splitlines()[-1]
        assert re.match(r"gankit( \w+)?: error: ", last), last
        assert len(last.split()) > 3
    return code == 0


def exit_code(line: list[str]) -> object:
    try:
        return main(line)
    except SystemExit as leaving:  # argparse's
        return leaving.code
