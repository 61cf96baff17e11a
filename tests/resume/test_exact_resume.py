"""Resuming equals never having stopped, to the last bit."""

from __future__ import annotations

import pytest
import torch

from gankit.errors import (
    InexactResumeWarning,
)
from gankit.losses import LossSchedule
from gankit.spec import Spec
from gankit.training import Checkpointer, load_newest
from tests.resume.trainings import DIGITS, POINTS, assert_equal, everything, lambda_at

CASES = {
    "plain": (POINTS, {}),
    "digits, in the middle of an epoch": (DIGITS.replace(batch_size=1000), {}),
    "two updates of D": (DIGITS.replace(discriminator_steps=2, batch_size=700), {}),
    "a schedule of losses": (POINTS.replace(loss=LossSchedule({0: "non_saturating", 7: "hinge"})), {}),
    "LeCam's averages": (POINTS.replace(regularizers=("lecam",)), {}),
    "LeCam's averages of replicas": (POINTS.replace(regularizers=("lecam",)), {"replicas": 3}),
    "replicas": (DIGITS.replace(batch_size=1000), {"replicas": 2}),
    "learning rates that decay": (POINTS.replace(learning_rate_decay=True, steps=13), {}),
    "averaging": (DIGITS.replace(averaging_decay=0.9), {}),
    "bfloat16": (POINTS.replace(precision="bfloat16"), {}),
    "a lazy penalty": (POINTS.replace(regularizers=(Spec("r1", every=2),)), {}),
    "a path-length penalty": (POINTS.replace(regularizers=(Spec("path_length", every=3),)), {}),
    "warm-up and clipping": (POINTS.replace(discriminator_warmup_steps=6, max_gradient_norm=0.1), {}),
    "sharing G's pass": (POINTS.replace(share_generator_forward=True), {}),
    "updates at the same time": (POINTS.replace(simultaneous_updates=True), {}),
    "a conditional model": (DIGITS.replace(num_classes=10, batch_size=1000), {}),
    "a rate for each replica": (
        POINTS.replace(generator_optimizer=Spec("replica_adam", lr=(0.1, 0.2)), discriminator_optimizer="replica_adam"),
        {"replicas": 2},
    ),
    "schedules of an optimizer, and dropout": (
        POINTS.replace(
            generator_optimizer=(_SGD := Spec("scheduled_sgd", lr_decay=1.5, final_momentum=0.9, momentum_steps=10)),
            discriminator_optimizer=_SGD,
            discriminator=Spec("mlp", widths=[8], dropout=0.5),
        ),
        {},
    ),
    "momentum": (POINTS.replace(generator_optimizer="rmsprop", discriminator_optimizer=Spec("sgd", lr=0.1)), {}),
}


@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 8))])
@pytest.mark.parametrize("case", CASES)
def test_resuming_equals_never_having_stopped(case, stop):
    resumes_exactly(*CASES[case], stop)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 5])
@pytest.mark.parametrize("case", [case for case in CASES if case != "sharing G's pass"])
def test_resuming_a_compiled_training_equals_never_having_stopped(case, stop):
    preset, options = CASES[case]
    resumes_exactly(preset.replace(execution="compile"), options, stop)


def resumes_exactly(preset, options, stop):

    def make():
        trainer = preset(device="cpu", seed=3, log_every_steps=3, **options)
        return trainer, preset.batches(device="cpu", seed=3, **options)

    whole, batches = make()
    with Checkpointer("checkpoints", every_steps=stop) as checkpointer:
        whole.callbacks.append(lambda_at(stop, checkpointer))
        whole.fit(batches, steps=13)
    torch.manual_seed(99)  # a new process has another state
    resumed, batches = make()
    load_newest("checkpoints").restore(resumed, batches)
    assert resumed.steps_done == stop
    resumed.fit(batches, steps=13)
    assert_equal(everything(whole), everything(resumed))
    assert whole.read_metrics() == resumed.read_metrics()
    labels = None if preset.num_classes is None else torch.arange(4)
    assert torch.equal(whole.sample(4, labels), resumed.sample(4, labels))


# --- callbacks with a state ------------------------------------------------------------------------------


class Counting:
    every = 1

    def __init__(self):
        self.seen = []

    def __call__(self, trainer):
        self.seen.append(trainer.steps_done)

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_callbacks_with_a_state_go_on_with_it():
    with Checkpointer("checkpoints", every_steps=2) as checkpointer:
        callbacks = [Counting(), Counting(), checkpointer]
        POINTS(device="cpu", callbacks=callbacks).fit(POINTS.batches(device="cpu"), steps=2)
    callbacks = [Counting(), Counting()]
    trainer, batches = POINTS(device="cpu", callbacks=callbacks), POINTS.batches(device="cpu")
    load_newest("checkpoints").restore(trainer, batches)
    trainer.fit(batches, steps=3)
    assert [one.seen for one in callbacks] == [[1, 2, 3]] * 2
    with pytest.warns(InexactResumeWarning, match="there is no callback Counting, whose state was saved"):
        load_newest("checkpoints").restore(POINTS(device="cpu", callbacks=[Counting()]), batches)
