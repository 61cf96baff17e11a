"""One checkout's side of `benchmarks.checkouts`: trains with the gankit of that checkout, and answers on the pipe.

The parent starts this file by its path, so that nothing but gankit is imported from a checkout. Each line of the
input is a request in JSON, each line of the output its answer. Only names that every version of gankit has may be used
here.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankit
from gankit import LossSchedule, Spec
from gankit.presets import PRESETS

WARMUP_STEPS = 8


class Operators(TorchDispatchMode):
    """Counts the operators that are dispatched, those of the backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


class StepCounts:
    """A callback that keeps the operators of each step."""

    every = 1

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.steps: list[dict[str, int]] = []

    def __call__(self, trainer: object) -> None:
        self.steps.append(dict(self.operators.counts))
        self.operators.counts.clear()


def begin(training: dict[str, Any], seed: int, **more: Any) -> tuple[Any, Any]:
    """Return the trainer and the batches of a training.

    Args:
        training: The name of a `preset`, and where the training differs from it: `batch_size`, `num_classes`,
            `replicas`, `loss` (a name, or a list of `[step, name]`), `regularizers` (a list of `[name, arguments]`),
            and `options` of the trainer.
        seed: The seed of both.
        more: Further arguments of the trainer.
    """
    preset = PRESETS.get(training["preset"])
    changes = {name: training[name] for name in ("batch_size", "num_classes") if name in training}
    if changes:
        preset = preset.replace(**changes)
    options = dict(training.get("options", {}))
    if "regularizers" in training:
        options["regularizers"] = [Spec(name, **arguments) for name, arguments in training["regularizers"]]
    if "loss" in training:
        loss = training["loss"]
        options["loss"] = loss if isinstance(loss, str) else LossSchedule(dict(loss))
    replicas = training.get("replicas")
    batches = preset.batches(device="cpu", seed=seed, replicas=replicas)
    return preset(device="cpu", seed=seed, replicas=replicas, **options, **more), batches


def count_operators(training: dict[str, Any], steps: int, seed: int) -> list[dict[str, int]]:
    """Return the operators of each step of `fit` by name, and in a last entry those after the last step."""
    operators = Operators()
    counts = StepCounts(operators)
    trainer, batches = begin(training, seed, callbacks=[counts])
    with operators:
        trainer.fit(batches, steps=steps)
    return [*counts.steps, dict(operators.counts)]


def versions() -> dict[str, str]:
    """Return where gankit comes from, and the versions and settings that matter for its speed."""
    return {
        "file": gankit.__file__,
        "gankit": gankit.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def main() -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what gankit prints must not become an answer
    trainings: dict[str, tuple[Any, Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            match request["do"]:
                case "versions":
                    answer = {"versions": versions()}
                case "begin":
                    trainings[request["name"]] = begin(request["training"], request["seed"])
                    trainer, batches = trainings[request["name"]]
                    trainer.fit(batches, steps=WARMUP_STEPS)
                    answer = {}
                case "steps":
                    trainer, batches = trainings[request["name"]]
                    started = time.perf_counter()
                    trainer.fit(batches, steps=trainer.steps_done + request["steps"])
                    answer = {"seconds": (time.perf_counter() - started) / request["steps"]}
                case "count":
                    answer = {"counts": count_operators(request["training"], request["steps"], request["seed"])}
                case unknown:
                    answer = {"error": f"unknown request {unknown!r}"}
        except Exception as error:  # noqa: BLE001 - the parent shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
