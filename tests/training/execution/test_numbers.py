"""Numbers that a compiled step holds take effect when they change, by another program or operation by operation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from gankit import AdversarialTrainer
from gankit.errors import ExecutionWarning
from gankit.losses import NonSaturating
from gankit.regularizers import Lecam
from tests.training import steps
from tests.training.steps import assert_the_same_run, small_networks

make = partial(steps.make, dtype=torch.float64)
make_batches = partial(steps.make_batches, dtype=torch.float64)


class Weighted(NonSaturating):
    """A loss with a number that its owner may change."""

    weight = 1.0

    def discriminator_loss(self, real_logits, fake_logits):
        return self.weight * super().discriminator_loss(real_logits, fake_logits)


class Fading(nn.Module):
    """A generator with a number, as in progressive growing."""

    def __init__(self, network):
        super().__init__()
        self.network, self.alpha = network, 1.0

    def forward(self, x):
        return self.alpha * self.network(x)


class Counts(Fading):
    def forward(self, x):
        self.alpha = self.alpha * 0.9
        return super().forward(x)


class Own(AdversarialTrainer):
    """A trainer with numbers in an objective of its own."""

    weight = 1.0
    _weight = 1.0

    def generator_objective(self, context):
        return {name: self.weight * self._weight * term for name, term in super().generator_objective(context).items()}


def networks_with(kind):
    def made(classes, dtype):
        G, D = small_networks(classes, dtype)
        return kind(G), D

    return made


class Sets:
    """A callback that sets a number by the step."""

    every = 1

    def __init__(self, part, name, values):
        self.part, self.name, self.values = part, name, values

    def __call__(self, trainer):
        if trainer.steps_done in self.values:
            object.__setattr__(self.part(trainer), self.name, self.values[trainer.steps_done])  # also if it is frozen


CASES = {
    "the weight of a penalty": (lambda trainer: trainer.regularizers["lecam"], "weight", "Lecam's 'weight'"),
    "a number of the loss": (lambda trainer: trainer.loss, "weight", "Weighted's 'weight'"),
    "a number of the generator": (lambda trainer: trainer.generator, "alpha", "Fading's 'alpha'"),
    "a number of the trainer": (lambda trainer: trainer, "weight", "the loss or the trainer"),
    "a private number of the trainer": (lambda trainer: trainer, "_weight", "the loss or the trainer"),
}


def with_numbers(execution, monkeypatch, case, values):
    monkeypatch.setattr(steps, "AdversarialTrainer", Own)
    options = {"loss": Weighted(), "regularizers": [Lecam()], "networks": networks_with(Fading)}
    part, name, _ = CASES[case]
    return make(execution, **options, callbacks=[Sets(part, name, values)])


@pytest.mark.parametrize("case", CASES)
def test_a_number_that_is_changed_takes_effect_by_another_program(traced_only, monkeypatch, case):
    data, values = make_batches(), {3: 0.5, 5: 1.0}
    eager = with_numbers("eager", monkeypatch, case, values).fit(data, steps=7)
    compiled = with_numbers("compile", monkeypatch, case, values).fit(data, steps=7)
    assert compiled.explain().mode == "compile"
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_number_that_changes_in_every_step_falls_back_with_one_warning(traced_only, monkeypatch, case):
    data, values = make_batches(), {step: 1 + 0.1 * step for step in range(1, 20)}
    eager = with_numbers("eager", monkeypatch, case, values).fit(data, steps=6)
    compiled = with_numbers("compile", monkeypatch, case, values)
    sentence = f"{CASES[case][2]} keeps changing, and each of its values needs a program of its own"
    with pytest.warns(ExecutionWarning, match=f"falls back to 'eager': {sentence}$") as caught:
        compiled.fit(data, steps=6)
    assert len(caught) == 1
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


def test_a_number_that_returns_has_its_program_again(traced_only):
    data, values = make_batches(), {2: 0.5, 3: 1.0, 4: 0.5, 5: 1.0}
    part, name, _ = CASES["a number of the generator"]
    options = {"networks": networks_with(Fading), "callbacks": [Sets(part, name, values)]}
    assert make("compile", **options).fit(data, steps=7).explain().programs == 4


def test_a_count_in_a_network_falls_back_because_it_would_stand_still(traced_only):
    data = make_batches()
    eager = make("eager", networks=networks_with(Counts)).fit(data, steps=4)
    compiled = make("compile", networks=networks_with(Counts))
    with pytest.warns(ExecutionWarning, match="Counts changes its attribute 'alpha', which is no buffer"):
        compiled.fit(data, steps=4)
    assert_the_same_run(eager, compiled)
    assert compiled.generator.alpha == eager.generator.alpha


@pytest.mark.parametrize("options", [{}, {"averaging_decay": 0.9}], ids=["no average", "average"])
@pytest.mark.parametrize("index", [1, 0], ids=["activation", "layer"])
def test_a_layer_that_is_replaced_takes_effect_by_another_program(traced_only, options, index):
    def run(execution):
        trainer = make(execution, **options).fit(data, steps=3)
        block, optimizer = trainer.generator.network[0], trainer.generator_optimizer
        torch.manual_seed(5)
        block[2 * index] = nn.Identity() if index else nn.Linear(3, 8, bias=False, dtype=torch.float64)
        optimizer.param_groups[0]["params"] = kept = [*trainer.generator.parameters()]
        for gone in optimizer.state.keys() - {*kept}:
            del optimizer.state[gone]
        return trainer.fit(data, steps=6)

    data = make_batches()
    eager, compiled = run("eager"), run("compile")
    assert compiled.explain().mode == "compile"
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


def test_an_objective_that_is_assigned_takes_effect_by_another_program(traced_only):
    def run(execution):
        trainer = make(execution).fit(data, steps=3)
        own = type(trainer).generator_objective
        trainer.generator_objective = lambda context: {name: 0.5 * term for name, term in own(trainer, context).items()}
        return trainer.fit(data, steps=6)

    data = make_batches()
    eager, compiled = run("eager"), run("compile")
    assert compiled.explain().mode == "compile"
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


class Schedule:
    """Losses that are made anew in each step."""

    def __init__(self, smoothing):
        self.smoothing = smoothing

    def loss_at(self, step):
        return NonSaturating(label_smoothing=self.smoothing(step))


def test_losses_of_equal_numbers_that_are_made_in_each_step_share_a_program(traced_only):
    def smoothing(step):
        return 0.1 if step < 4 else 0.2

    data = make_batches()
    eager, compiled = (make(way, Schedule(smoothing)).fit(data, steps=8) for way in ("eager", "compile"))
    assert (compiled.explain().mode, compiled.explain().programs) == ("compile", 4)
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


def test_losses_of_other_numbers_in_each_step_fall_back(traced_only):
    data = make_batches()
    eager = make("eager", Schedule(lambda step: 0.01 * step)).fit(data, steps=6)
    compiled = make("compile", Schedule(lambda step: 0.01 * step))
    with pytest.warns(ExecutionWarning, match="the loss or the trainer keeps changing"):
        compiled.fit(data, steps=6)
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)
