"""A step needs no trainer, and a trainer has no tensors of its own."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
import types

import pytest
import torch
from torch import Tensor

from gankit import AdversarialTrainer
from gankit.losses import LossSchedule
from gankit.regularizers import R1, Lecam, PathLength
from tests.training import steps, without_trainer

# --- a step without a trainer ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_another_process():
    command = [sys.executable, "-m", "tests.training.without_trainer"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def test_ten_steps_need_no_trainer(in_another_process):
    results = in_another_process["results"]
    assert in_another_process["has_trainer"] is False
    assert len(results) == 10
    assert ["penalty/r1" in row for row in results] == [step % 3 == 0 for step in range(10)]
    assert all(math.isfinite(value) for row in results for value in row.values())
    assert results[-1]["skipped_updates"] == 0


def test_a_trainer_gives_the_results_of_these_steps_to_the_last_bit(in_another_process):
    networks, arguments = without_trainer.networks_and_optimizers()
    loss, regularizers = without_trainer.objectives()
    trainer = AdversarialTrainer(
        *networks, loss, regularizers=regularizers, **arguments, **without_trainer.OPTIONS, callbacks=[]
    )
    rows = []

    class Note:
        every = 1

        def __call__(self, trainer):
            due = [name for name in trainer.metrics if name != "penalty/r1" or (trainer.steps_done - 1) % 3 == 0]
            rows.append({name: trainer.metrics[name].item() for name in due})

    trainer.callbacks.append(Note())
    trainer.fit(without_trainer.batches(), steps=without_trainer.STEPS)
    assert rows == in_another_process["results"]


# --- a trainer's tensors ---------------------------------------------------------------------------------

WITHOUT_TENSORS = (str, bytes, int, float, bool, type(None), type, types.ModuleType, torch.device, torch.dtype)


def tensors_within(root, left_out=()):
    """Return every tensor that is reachable from an object, by the path to it.

    Containers, the attributes of objects, and what functions have enclosed are followed.

    Args:
        root: The object.
        left_out: Objects that are not followed.
    """
    found, seen, waiting = {}, {id(one): one for one in left_out}, [("", root)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, WITHOUT_TENSORS) or id(one) in seen:
            continue
        seen[id(one)] = one  # a reference, so that no other object gets the same id
        if isinstance(one, Tensor):
            found[path] = one
            one = {"grad": one.grad} if one.is_leaf else {}
        waiting += [(f"{path}.{name}".lstrip("."), inner) for name, inner in _parts(one)]
    return found


def _parts(one):
    if isinstance(one, dict):
        keys = [(f"key {index}", key) for index, key in enumerate(one)]
        return keys + [
            (str(key) if isinstance(key, str) else f"value {i}", v) for i, (key, v) in enumerate(one.items())
        ]
    if isinstance(one, (list, tuple, set, frozenset)):
        return [(str(index), inner) for index, inner in enumerate(one)]
    if isinstance(one, functools.partial):
        return [("func", one.func), ("args", one.args), ("keywords", one.keywords)]
    if isinstance(one, types.MethodType):
        return [("self", one.__self__), ("function", one.__func__)]
    if isinstance(one, types.FunctionType):
        enclosed = [cell.cell_contents for cell in one.__closure__ or ()]
        return [("enclosed", enclosed), ("defaults", one.__defaults__), ("keywords", one.__kwdefaults__)]
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(one, name)]
    return [*getattr(one, "__dict__", {}).items(), *((name, getattr(one, name)) for name in slots)]


def batches_of(trainer):
    """Return what a trainer holds of the data: its feed, and the batches of the newest step."""
    return [trainer.feed, trainer._executor._newest]


def strange_tensors(trainer):
    """Return the paths of the tensors that a trainer holds and that are neither in its state nor batches."""
    own = {id(one) for one in tensors_within(trainer.state).values()}
    held = tensors_within(trainer, [trainer.state, trainer.callbacks, *batches_of(trainer)])
    return [path for path, one in held.items() if id(one) not in own]


TRAININGS = {
    "averages": lambda: {"averaging_decay": 0.9, "regularizers": [R1(every=2), Lecam(), PathLength()]},
    "schedule": lambda: {"loss": LossSchedule({0: "non_saturating", 5: "minimax"})},
    "skip": lambda: {"on_non_finite": "skip", "max_gradient_norm": 1.0},
    "falling rates": lambda: {"learning_rate_decay_steps": 20},
    "shared generator forward": lambda: {"share_generator_forward": True},
    "conditional": lambda: {"classes": steps.CLASSES},
    "compile": lambda: {"execution": "compile", "averaging_decay": 0.9, "regularizers": [Lecam()]},
    "replicas": lambda: {
        "networks": steps.stacked(steps.small_networks, 2),
        "averaging_decay": 0.9,
        "regularizers": [R1(), Lecam(), PathLength()],
    },
}


def trained(case):
    options = TRAININGS[case]()
    trainer = steps.make(log_every_steps=4, **options)
    batches = steps.make_batches(options.get("classes"), replicas=(2,) if case == "replicas" else ())
    return trainer.fit(batches, steps=10)


@pytest.mark.parametrize("case", TRAININGS)
def test_a_trainer_holds_no_tensor_that_is_not_in_its_state(case, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)  # Inductor takes many seconds
    trainer = trained(case)
    assert len(tensors_within(trainer.state)) > 20
    assert strange_tensors(trainer) == []
    trainer.sample(3, torch.arange(3) if case == "conditional" else None)
    trainer.explain()
    assert strange_tensors(trainer) == []


@pytest.mark.parametrize("case", TRAININGS)
def test_a_state_saves_every_tensor_that_it_holds_but_gradients(case, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    state = trained(case).state
    saved = {one.data_ptr() for one in tensors_within(state.state_dict()).values()}
    held = tensors_within(state)
    assert [path for path, one in held.items() if one.data_ptr() not in saved and not path.endswith(".grad")] == []


def test_nothing_but_the_feed_and_the_newest_step_holds_batches():
    trainer = trained("averages")
    data = {id(one) for one in trainer.feed.batches}
    held = tensors_within(trainer, [trainer.state, trainer.callbacks, *batches_of(trainer)])
    assert not data & {id(one) for one in held.values()}
    for one in batches_of(trainer):
        assert data & {id(tensor) for tensor in tensors_within(one).values()}


@pytest.mark.parametrize("place", ["attribute", "container", "enclosed", "part", "method"])
def test_a_tensor_that_is_not_in_the_state_is_found(place):
    trainer, planted = trained("averages"), torch.zeros(1)

    class Holder:
        def __init__(self):
            self.tensor = planted

        def method(self):
            """Nothing."""

    plant = {
        "attribute": lambda: setattr(trainer, "planted", planted),
        "container": lambda: setattr(trainer._executor, "planted", {"a": [(1, planted)]}),
        "enclosed": lambda: setattr(trainer._step, "planted", functools.partial(lambda: planted)),
        "part": lambda: setattr(trainer._non_finite, "planted", Holder()),
        "method": lambda: setattr(trainer._checked, "planted", Holder().method),
    }
    plant[place]()
    assert [path for path in strange_tensors(trainer) if "planted" not in path] == []
    assert len(strange_tensors(trainer)) == 1
