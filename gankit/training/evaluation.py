"""`Evaluate`: a callback that scores the samples of a generator every few steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, check_count, check_seed
from gankit.files import append_line, write_text
from gankit.metrics.evaluation import Evaluation, Weights
from gankit.metrics.scores import Evaluator, Score
from gankit.seeds import replica_seeds, stream_seed
from gankit.training.metrics_file import lines_until
from gankit.training.trainer import AdversarialTrainer


def score_generator(
    trainer: AdversarialTrainer, evaluator: Evaluator, *, condition: Tensor | None = None, seed: int = 0
) -> Evaluation:
    """Score the samples of the present generator, with its own weights and with the averaged ones if there are any.

    Both are sampled from the same latents, which come from streams of their own, so that they are not those of any
    other samples. Numbers that the evaluator draws from torch's default generators follow from `seed` too. The random
    numbers of training are not used.

    Args:
        trainer: The trainer, whose generator is scored. With replicas, each of them is scored by itself.
        evaluator: What scores the samples.
        condition: The condition of each sample, for conditional networks: one entry for each of `evaluator.samples`.
        seed: The seed of the latents. Replica i is scored as a single model with the seed `seed + i` is.

    Example:
        >>> from gankit.metrics import MixtureEvaluator
        >>> from gankit.presets import ring
        >>> batches = ring.batches(device="cpu")
        >>> evaluation = score_generator(ring(device="cpu").fit(batches, steps=2), MixtureEvaluator(batches.sampler))
        >>> list(evaluation.scores), evaluation.mean("captured_modes").real
        (['raw', 'averaged'], 8.0)
    """
    seeds = [stream_seed(one, "evaluation") for one in replica_seeds(seed, trainer.replicas)]
    scores: dict[Weights, list[Mapping[str, Score]]] = {}
    weights: tuple[Weights, ...] = ("raw",) if trainer.averaged_generator is None else ("raw", "averaged")
    for name in weights:
        samples = trainer.sample(evaluator.samples, condition, seeds, averaged=name == "averaged")
        each = [samples] if trainer.replicas is None else list(samples)
        with torch.no_grad(), trainer.randomness.drawn_from(trainer.randomness.generators(seeds)):
            scores[name] = [evaluator(one) for one in each]
    return Evaluation(trainer.steps_done, scores)


class Evaluate:
    """Score the generator's samples before the first step and then every few steps, raw and averaged weights both.

    Training is to the last bit what it is without evaluations: samples come from streams of their own, and are the same
    latents at every step. With replicas, each is scored by itself. With several ranks, rank 0 evaluates.

    The history is part of a checkpoint. A file continues as that of `MetricsLog` does: it has each step once, however
    often training was interrupted.

    Args:
        evaluator: What scores the samples, such as `gankit.metrics.MixtureEvaluator`.
        every: The number of steps between two evaluations.
        path: A `.jsonl` file to which each evaluation is appended, as `Evaluation.row` returns it. Its folder must
            exist. None writes none.
        condition: The condition of each sample, for conditional networks: one entry for each of `evaluator.samples`.
        seed: The seed of the latents.
        metric: The name of the metric that says which step is the best one, such as `parzen_log_likelihood/validation`.
            The weights that `sample` uses count, and the mean over replicas. A step that is chosen by the data with
            which results are reported makes these look better than they are, so None takes the first metric whose name
            ends in `/validation`, or the first one if there is none.
        patience: The number of evaluations in a row without a better `metric` after which `fit` stops. None never
            stops.

    Attributes:
        history: The `Evaluation`s, in the order of their steps.

    Raises:
        BadValueError: If `every` or `patience` is less than 1, and, before the first step, for a `metric` that the
            evaluator does not have.

    Example:
        >>> from gankit.metrics import MixtureEvaluator
        >>> from gankit.presets import ring
        >>> batches = ring.batches(device="cpu")
        >>> evaluate = Evaluate(MixtureEvaluator(batches.sampler), every=10)
        >>> _ = ring(device="cpu", callbacks=[evaluate]).fit(batches, steps=20)
        >>> [one.step for one in evaluate.history], evaluate.history[-1].metrics
        ([0, 10, 20], ['captured_modes', 'high_quality_share', 'reverse_kl'])
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        every: int = 500,
        path: str | Path | None = None,
        condition: Tensor | None = None,
        seed: int = 0,
        metric: str | None = None,
        patience: int | None = None,
    ) -> None:
        check_count("every", every)
        if patience is not None:
            check_count("patience", patience)
        check_seed(seed)
        self.evaluator = evaluator
        self.every = every
        self.path: Path | None = None if path is None else Path(path)
        self.condition = condition
        self.seed = seed
        self.metric = metric
        self.patience = patience
        self.history: list[Evaluation] = []
        self._newest: int | None = None

    def begin_fit(self, trainer: AdversarialTrainer) -> None:
        """Take over the lines that this training has written before, and evaluate the untrained generator.

        Raises:
            OutputExistsError: For a file with lines of another training, or with something else.
        """
        trainer.ranks.first(lambda: self._begin(trainer))

    def _begin(self, trainer: AdversarialTrainer) -> None:
        if self._newest is None or self._newest > trainer.steps_done:
            self._continue_after(trainer.steps_done, trainer)
            if not trainer.steps_done and not self.history:
                self.evaluate_untrained(trainer)
                self._continue_after(0, trainer)

    def evaluate_untrained(self, trainer: AdversarialTrainer) -> None:
        """Evaluate the untrained generator before `fit` does, so that a mistake shows before anything is written.

        Raises:
            BadValueError: For a `metric` that the evaluator does not have.
        """
        found = self.evaluate(trainer)
        found.mean(self._metric_of(found))
        self.history.append(found)

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Evaluate the present step."""
        if not trainer.ranks.is_first:
            return
        step = trainer.steps_done
        if self._newest is None or self._newest >= step:  # training went back to a checkpoint
            self._continue_after(step - 1, trainer)
        self.history.append(self.evaluate(trainer))
        self._newest = step
        if self.path is not None:
            append_line(self.path, json.dumps(self.history[-1].row()), "the log of the evaluations")
        best = self.best_step
        if self.patience is not None and sum(one.step > (best or 0) for one in self.history) >= self.patience:
            trainer.stop()

    @property
    def best_step(self) -> int | None:
        """The step with the best `metric` so far, the earliest of several; None before training has been evaluated."""
        best = None
        for one in self.history:
            # the untrained generator is evaluated too, but it is nothing that training has reached
            if one.step and (best is None or self._score(one).is_better_than(self._score(best))):
                best = one
        return None if best is None else best.step

    def _score(self, evaluation: Evaluation) -> Score:
        return evaluation.mean(self._metric_of(evaluation))

    def _metric_of(self, evaluation: Evaluation) -> str:
        names = evaluation.metrics
        return self.metric or next((name for name in names if name.endswith("/validation")), names[0])

    def evaluate(self, trainer: AdversarialTrainer) -> Evaluation:
        """Return the evaluation of the present step: that of the history, or a new one, which is not kept."""
        if self.history and self.history[-1].step == trainer.steps_done:
            return self.history[-1]
        return score_generator(trainer, self.evaluator, condition=self.condition, seed=self.seed)

    def resume(self, trainer: AdversarialTrainer) -> None:
        """Make the file hold the history of a trainer that continues from a checkpoint, whatever it held before."""
        if trainer.ranks.is_first and self.path is not None:
            self._write({one.step: one.row() for one in self.history}, self.path)
            trainer.state.metrics.logs.add(self.path.resolve())
            self._newest = trainer.steps_done

    def state_dict(self) -> dict[str, Any]:
        """Return the history in plain containers."""
        return {"history": [one.to_dict() for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            BadArgumentsError: For anything else.
        """
        history = state.get("history")
        if not isinstance(history, list):
            raise BadArgumentsError(f"the state of Evaluate must have a history, got {sorted(state)}")
        evaluations = [Evaluation.from_dict(one) for one in cast("list[Any]", history)]
        self.history, self._newest = evaluations, None

    def _continue_after(self, step: int, trainer: AdversarialTrainer) -> None:
        """Forget later steps, and make the file hold the others, if it is that of this training."""
        known: dict[float, dict[str, Any]] = {one.step: one.row() for one in self.history}
        if self.path is not None:
            state, path = trainer.state, self.path.resolve()
            is_own, was_resumed = path in state.metrics.logs, state.resumed_from is not None
            lines = lines_until(self.path, step, known, is_own=is_own, was_resumed=was_resumed)
            rows: dict[float, dict[str, Any]] = {line.row["step"]: line.row for line in lines}
            if missing := {one: row for one, row in known.items() if one <= step and one not in rows}:
                self._write(rows | missing, self.path)
            state.metrics.logs.add(path)
        self.history[:] = [one for one in self.history if one.step <= step]
        self._newest = step

    def _write(self, rows: Mapping[float, Mapping[str, Any]], path: Path) -> None:
        write_text(path, "".join(json.dumps(rows[step]) + "\n" for step in sorted(rows)), "the log of the evaluations")
