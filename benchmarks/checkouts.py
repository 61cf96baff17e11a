"""Compares two checkouts of gankit: `python -m benchmarks.checkouts OLD NEW`.

Two processes, each with the gankit of one checkout, run blocks of training steps in turn, and each goes first in every
second round. The ratio of their times is taken round by round, so that a machine that slows down slows both. Processes
are started anew several times, because where the system happens to put a process in memory changes its speed by a
percent or two. Then the operators of each step are counted in both checkouts, for every option of the trainer, every
loss and every penalty. Compiled halves are not among them: their operators are not dispatched.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.report import hardware, short, spread_of, table
from benchmarks.timing import order, steps_that_fit

OLD, NEW = "old", "new"
WORKER = Path(__file__).with_name("checkout_worker.py")

TIMED: dict[str, dict[str, Any]] = {
    "vanilla_mnist, batch 128": {"preset": "vanilla_mnist", "batch_size": 128},
    "ring": {"preset": "ring"},
}
PERIOD = 4
"""The number of steps in a block is a multiple of this one, the period of the penalty of `ring`."""


def _small(**training: Any) -> dict[str, Any]:
    return {"preset": "vanilla_mnist", "batch_size": 8} | training


def _with_options(**options: Any) -> dict[str, Any]:
    return _small(options=options)


def _with_penalty(name: str, *, loss: str = "non_saturating", **arguments: Any) -> dict[str, Any]:
    return _small(loss=loss, regularizers=[[name, arguments]])


LOSSES = (
    *("minimax", "least_squares", "hinge", "wasserstein", "f_divergence", "softmax", "relativistic"),
    *("relativistic_average", "relativistic_average_hinge", "relativistic_average_least_squares"),
)
PENALTIES = (
    *("r1", "r2", "r1_r2", "dragan", "zero_centered_interpolated", "lecam", "consistency", "balanced_consistency"),
    *("logit_drift", "feature_matching", "layer_matching", "mode_seeking", "path_length", "weight_clipping"),
)

COUNTED: dict[str, dict[str, Any]] = {
    "eager": _with_options(execution="eager"),
    "clipping": _with_options(max_gradient_norm=1.0),
    "averaging": _with_options(averaging_decay=0.99),
    "decay of learning rates": _with_options(learning_rate_decay=True),
    "two updates of D": _with_options(discriminator_steps=2),
    "warm-up of D": _with_options(discriminator_warmup_steps=2),
    "skipping": _with_options(on_non_finite="skip"),
    "skipping with clipping": _with_options(on_non_finite="skip", max_gradient_norm=1.0),
    "bfloat16": _with_options(precision="bfloat16"),
    "shared pass": _with_options(share_generator_forward=True),
    "shared pass with warm-up": _with_options(share_generator_forward=True, discriminator_warmup_steps=2),
    "simultaneous updates": _with_options(simultaneous_updates=True),
    "concatenated": _with_options(concatenate_discriminator_passes=True),
    "concatenated with averaging": _with_options(concatenate_discriminator_passes=True, averaging_decay=0.99),
    "a check in every step": _with_options(check_every_steps=1),
    "a log in every step": _with_options(log_every_steps=1),
    "replicas": _small(replicas=2),
    "replicas with clipping and averaging": _small(
        replicas=2, options={"max_gradient_norm": 1.0, "averaging_decay": 0.99}
    ),
    "replicas with a penalty": _small(replicas=2, regularizers=[["r1", {"every": 2}]]),
    "labels": _small(num_classes=10),
    "a schedule of losses": _small(loss=[[0, "non_saturating"], [2, "minimax"]]),
    "ring": {"preset": "ring", "batch_size": 8},
    "dcgan_mnist": {"preset": "dcgan_mnist", "batch_size": 2},
    "lazy R1 with a shared pass and warm-up": _small(
        regularizers=[["r1", {"every": 3}]],
        options={"share_generator_forward": True, "discriminator_warmup_steps": 2},
    ),
    "lazy R1 with several updates of D": _small(
        regularizers=[["r1", {"every": 3}]], options={"discriminator_steps": 2}
    ),
    **{f"loss {name}": _small(loss=name) for name in LOSSES},
    "loss energy_based": _small(loss="energy_based", options={"discriminator": "autoencoder"}),
    **{name: _with_penalty(name) for name in PENALTIES},
    "wasserstein_gradient_penalty": _with_penalty("wasserstein_gradient_penalty", loss="wasserstein"),
    "lazy R1": _with_penalty("r1", every=3),
    "lazy path length": _with_penalty("path_length", every=2),
}
"""The trainings whose operators are counted."""


Difference = tuple[str, str, int, int]
"""When, which operator, and how often in the old and in the new checkout."""


# --- statistics ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """How long the new checkout takes for what takes the old one 1, with a 95 % interval.

    Args:
        median: The median of the rounds' ratios.
        low: The lower end of the interval.
        high: The upper end.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio_of(old: Sequence[float], new: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Ratio:
    """Return the median of the ratios `new / old`, round by round, with the bootstrap's percentile interval.

    Args:
        old: The seconds of the old checkout, one number for each round.
        new: The seconds of the new one in the same rounds.
        resamples: How many times as many rounds are drawn from the rounds, with replacement.
        seed: The seed of these draws.

    Example:
        >>> ratio_of([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
        Ratio(median=2.0, low=2.0, high=2.0)
    """
    rounds = torch.tensor([ours / theirs for theirs, ours in zip(old, new, strict=True)], dtype=torch.float64)
    random = torch.Generator().manual_seed(seed)
    drawn = rounds[torch.randint(len(rounds), (resamples, len(rounds)), generator=random)]
    low, high = drawn.quantile(0.5, dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Ratio(rounds.quantile(0.5).item(), low, high)


def differences(old: Sequence[Mapping[str, int]], new: Sequence[Mapping[str, int]]) -> list[Difference]:
    """Return where two trainings dispatch different operators: when, which, how often in each.

    Args:
        old: The operators of each step by name, and in a last entry those after the last step.
        new: The same for the new checkout.

    Example:
        >>> differences([{"mul": 2}, {}], [{"mul": 1, "add": 1}, {}])
        [('step 1', 'add', 0, 1), ('step 1', 'mul', 2, 1)]
    """
    found = []
    for number, (before, after) in enumerate(zip(old, new, strict=True), start=1):
        when = f"step {number}" if number < len(old) else "the end"
        names = sorted(name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0))
        found += [(when, name, before.get(name, 0), after.get(name, 0)) for name in names]
    return found


# --- processes -------------------------------------------------------------------------------------------


class WorkerError(Exception):
    """A worker could not do what it was asked to do."""


class Worker:
    """A process that trains with the gankit of one checkout.

    Args:
        checkout: The folder that holds `gankit/`.
    """

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout.resolve()
        if not (self.checkout / "gankit" / "__init__.py").exists():
            raise SystemExit(f"a checkout must hold gankit/__init__.py, got {str(checkout)!r}")
        # -P: the folder of the worker's file is not searched for modules
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            env=os.environ | {"PYTHONPATH": str(self.checkout), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: If the worker failed, or has ended.
        """
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the worker of {self.checkout} has ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def versions(self) -> dict[str, str]:
        """Return the versions and settings of the process; its gankit must be the checkout's."""
        found = self.ask("versions")["versions"]
        if not Path(found["file"]).resolve().is_relative_to(self.checkout):
            raise WorkerError(f"the worker of {self.checkout} imports gankit from {found['file']}")
        return found


# --- measuring -------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """What was found about two checkouts.

    Attributes:
        versions: For each checkout where its gankit comes from, and its versions and settings.
        seconds: For each training in `TIMED` and each checkout the seconds per step, one number for each round.
        operators: For each counted training how many operators each checkout dispatched in all.
        differences: For each training whose operators differ what `differences` returns.
        not_counted: For each training that one checkout cannot run the reason.
    """

    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    operators: dict[str, dict[str, int]] = field(default_factory=dict)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    not_counted: dict[str, str] = field(default_factory=dict)

    def time(self, workers: Mapping[str, Worker], *, rounds: int, block_seconds: float, seed: int) -> None:
        """Let both workers run blocks of steps in turn, and keep the seconds of each.

        Args:
            workers: The two workers.
            rounds: The number of blocks that each of them runs in each training.
            block_seconds: About how long a block takes.
            seed: The seed of the trainings.
        """
        for name, training in TIMED.items():
            seconds = self.seconds.setdefault(name, {OLD: [], NEW: []})
            for worker in workers.values():
                worker.ask("begin", name=name, training=training, seed=seed)
            guess = max(worker.ask("steps", name=name, steps=PERIOD)["seconds"] for worker in workers.values())
            steps = PERIOD * steps_that_fit(PERIOD * guess, block_seconds, 1, 250)
            for number in range(rounds):
                for which in order([OLD, NEW], number):
                    found = workers[which].ask("steps", name=name, steps=steps)
                    seconds[which].append(found["seconds"])

    def count(self, workers: Mapping[str, Worker], names: Sequence[str], *, steps: int, seed: int) -> None:
        """Count the operators of trainings in both checkouts.

        Args:
            workers: The two workers.
            names: The trainings, by their names in `COUNTED`.
            steps: The number of steps that are counted.
            seed: The seed of the trainings.
        """
        for name in names:
            counts = {}
            for which, worker in workers.items():
                try:
                    counts[which] = worker.ask("count", training=COUNTED[name], steps=steps, seed=seed)["counts"]
                except WorkerError as error:
                    self.not_counted[f"{name}, {which}"] = str(error)
            if counts.keys() == {OLD, NEW}:
                self.operators[name] = {which: sum(sum(one.values()) for one in counts[which]) for which in counts}
                if found := differences(counts[OLD], counts[NEW]):
                    self.differences[name] = found

    @property
    def ratios(self) -> dict[str, Ratio]:
        """The ratio of the times for each training."""
        return {name: ratio_of(found[OLD], found[NEW]) for name, found in self.seconds.items()}

    def to_markdown(self) -> str:
        """Return the tables."""
        old, new = self.versions[OLD], self.versions[NEW]
        parts = [table(("", OLD, NEW), [(name, old[name], new[name]) for name in old])]
        if self.seconds:
            times = [
                (name, *(spread_of(found[which], short) for which in (OLD, NEW)), self.ratios[name], len(found[OLD]))
                for name, found in self.seconds.items()
            ]
            parts.append(
                table(("training", "old, per step", "new, per step", "new / old (95 % interval)", "rounds"), times)
            )
        if self.operators:
            totals = [(name, count[OLD], count[NEW]) for name, count in self.operators.items()]
            parts.append(table(("training", "operators, old", "operators, new"), totals))
            if not self.differences:
                parts.append("Every step dispatches the same operators in both.")
        for name, found in self.differences.items():
            parts += [f"{name}:", table(("when", "operator", OLD, NEW), found)]
        parts += [f"not counted: {name}: {reason}" for name, reason in self.not_counted.items()]
        return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if something could not be counted, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkouts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="the old checkout: a folder that holds gankit/")
    parser.add_argument("new", type=Path, metavar="NEW", help="the new checkout")
    parser.add_argument("--rounds", type=int, default=100, help="rounds of a block each, 0 for none; default: 100")
    parser.add_argument("--launches", type=int, default=4, help="times the processes are started; default: 4")
    parser.add_argument("--block-seconds", type=float, default=0.25, help="about the time of a block; default: 0.25")
    parser.add_argument("--steps", type=int, default=7, help="steps whose operators are counted; default: 7")
    parser.add_argument("--count", nargs="*", metavar="NAME", help="the trainings to count; default: all")
    parser.add_argument("--seed", type=int, default=0, help="the seed; each launch takes the next one; default: 0")
    parser.add_argument("--out", type=Path, help="a JSON file for every number")
    options = parser.parse_args(arguments)
    names = list(COUNTED) if options.count is None else options.count
    if unknown := set(names) - COUNTED.keys():
        parser.error(f"--count knows {', '.join(COUNTED)}, not {', '.join(sorted(unknown))}")
    if options.rounds < 0 or options.rounds == 1:
        parser.error(f"--rounds must be 0 or at least 2, not {options.rounds}")
    if options.launches < 1:
        parser.error(f"--launches must be at least 1, not {options.launches}")
    comparison = Comparison()
    launches = max(1, min(options.launches, options.rounds))
    shares = [options.rounds // launches + (number < options.rounds % launches) for number in range(launches)]
    for launch, share in enumerate(shares):
        with Worker(options.old) as old, Worker(options.new) as new:
            workers = {OLD: old, NEW: new}
            comparison.versions = {which: worker.versions() for which, worker in workers.items()}
            seed = options.seed + launch
            if share:
                comparison.time(workers, rounds=share, block_seconds=options.block_seconds, seed=seed)
            if launch == launches - 1:
                comparison.count(workers, names, steps=options.steps, seed=options.seed)
    settings = {
        "date": datetime.date.today().isoformat(),
        **hardware(torch.device("cpu")),
        "seeds": f"{options.seed} to {options.seed + launches - 1}",
        "operators": f"those of {options.steps} steps",
    }
    print(f"{table(('', ''), settings.items())}\n\n{comparison.to_markdown()}")
    if options.out:
        ratios = {name: asdict(ratio) for name, ratio in comparison.ratios.items()}
        form = {"settings": settings, "ratios": ratios, **asdict(comparison)}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(form, indent=2) + "\n", encoding="utf-8")
    return 1 if comparison.not_counted else 0


if __name__ == "__main__":
    raise SystemExit(main())
