"""A trainer that is dropped is gone at once, and so are the workers that feed it; its copies are whole."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import weakref
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gankit import AdversarialTrainer
from gankit.errors import BadArgumentsError
from gankit.training import Checkpointer
from gankit.training.methods import MethodOf
from tests.training.steps import assert_the_same_run, make, make_batches


class Louder(AdversarialTrainer):
    """A trainer with an objective of its own."""

    def generator_objective(self, context):
        return {name: 2 * term for name, term in super().generator_objective(context).items()}


@pytest.fixture
def no_cycles_collected():
    make()  # the first optimizer of a process imports modules of torch whose errors keep this frame
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def loader():
    return DataLoader(TensorDataset(torch.rand(64, 1, 4, 4)), 8, num_workers=2)


USES = {
    "only constructed": lambda trainer: None,
    "after a step": lambda trainer: trainer.step(make_batches()[0]),
    "after fit": lambda trainer: trainer.fit(make_batches(), steps=3),
    "after sampling": lambda trainer: trainer.sample(3),
    "after fit on a loader": lambda trainer: trainer.fit(loader(), steps=3),
    "compiled": lambda trainer: trainer.fit(make_batches(), steps=3),
}


@pytest.mark.parametrize("use", USES)
def test_a_dropped_trainer_is_gone_at_once(use, no_cycles_collected, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    trainer = make("compile" if use == "compiled" else "eager", averaging_decay=0.9)
    USES[use](trainer)
    alive = [weakref.ref(one) for one in (trainer, trainer.state, trainer.generator, trainer.averaged_generator)]
    del trainer
    assert [one() for one in alive] == [None] * 4
    assert multiprocessing.active_children() == []


def test_the_workers_of_a_loader_end_when_fit_gets_other_batches(no_cycles_collected):
    trainer = make().fit(loader(), steps=3)
    assert len(multiprocessing.active_children()) == 2
    trainer.fit(make_batches(), steps=4)
    assert multiprocessing.active_children() == []


WAYS = {"pickle": lambda trainer: pickle.loads(pickle.dumps(trainer)), "copy": copy.deepcopy}


@pytest.mark.parametrize(("way", "execution"), [("pickle", "eager"), ("copy", "eager"), ("pickle", "compile")])
def test_a_copy_trains_as_the_trainer_would_have_and_leaves_it_alone(way, execution, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    data = make_batches()
    whole = make(execution, averaging_decay=0.9).fit(data, steps=8)
    trainer = make(execution, averaging_decay=0.9).fit(data, steps=4)
    other = WAYS[way](trainer)
    assert other.feed is None
    other.fit(data, steps=8)
    assert trainer.steps_done == 4
    assert_the_same_run(trainer, make(execution, averaging_decay=0.9).fit(data, steps=4))
    assert_the_same_run(other, whole)
    assert other.explain().mode == execution


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_uses_its_own_objectives(way, monkeypatch):
    monkeypatch.setattr("tests.training.steps.AdversarialTrainer", Louder)
    other = WAYS[way](make())
    assert type(other) is Louder
    called = []
    other.discriminator_objective = lambda context: called.append(context) or {"loss": context.logits("real")}
    other.step(make_batches()[0])
    assert len(called) == 1


def test_a_subclass_and_an_assignment_replace_the_objective(monkeypatch):
    monkeypatch.setattr("tests.training.steps.AdversarialTrainer", Louder)
    trainer, batch = make(), make_batches()[0]
    doubled = trainer.step(batch)["generator_loss"]
    plain = make()
    plain.generator_objective = partial(AdversarialTrainer.generator_objective, plain)
    assert torch.equal(doubled, 2 * plain.step(batch)["generator_loss"])


def test_a_checkpointer_must_be_closed_before_it_is_copied():
    with Checkpointer("here", every_steps=1) as checkpointer:
        trainer = make(callbacks=[checkpointer]).fit(make_batches(), steps=2)
        with pytest.raises(BadArgumentsError, match="a Checkpointer must be closed before it is copied or pickled"):
            pickle.dumps(trainer)
    assert pickle.loads(pickle.dumps(trainer)).steps_done == 2


def test_a_method_that_is_looked_up_does_not_keep_its_object():
    owner = Louder.__new__(Louder)
    method, reference = MethodOf(owner, "stop"), weakref.ref(owner)
    method()
    assert owner._is_asked_to_stop
    del owner
    assert reference() is None
