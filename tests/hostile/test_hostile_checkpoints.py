"""Checkpoints with right hashes that hold something else than a training: one typed error each, in bounded memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from gankit.errors import CheckpointError
from gankit.training import Checkpointer, load_checkpoint, load_newest
from gankit.training.saving.manifest import STATE, TENSORS, manifest_bytes, write_file
from gankit.training.saving.tree import flatten
from tests.hostile.bounds import POINTS, put_together, refused, taken_apart


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of two checkpoints."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpointer(folder, every_steps=2) as checkpointer:
        POINTS(device="cpu", callbacks=[checkpointer]).fit(POINTS.batches(device="cpu"), steps=4)
    return folder


@pytest.fixture
def newest(saved):
    """The newest of a copy of them."""
    shutil.copytree(saved, "checkpoints")
    return Path("checkpoints/step_0000004")


def put(newest: Path, **contents: bytes) -> None:
    """Replace files of a checkpoint, named without their ending, and write the manifest that goes with them."""
    form = json.loads((newest / "manifest.json").read_text())
    del form["sha256"]
    for name, content in contents.items():
        file = {"json": STATE, "safetensors": TENSORS}[name]
        (newest / file).unlink()
        form["files"][file] = write_file(newest / file, content)
    (newest / "manifest.json").write_bytes(manifest_bytes(form))


def of_state(state) -> dict[str, bytes]:
    node, tensors = flatten(state)
    return {"json": json.dumps(node).encode(), "safetensors": save(tensors)}


# --- the JSON --------------------------------------------------------------------------------------------

RANKS = [{"random": {}, "data": None}]
TRAINING = {"steps_done": 4, "history": []}


def with_node(node: str) -> bytes:
    """The JSON of a state, one of whose values is `node`."""
    whole = {"training": TRAINING | {"odd": "HERE"}, "ranks": RANKS, "callbacks": []}
    return json.dumps(flatten(whole)[0]).replace('"HERE"', node).encode()


ODD = {
    "no JSON": (b"\x80\x04K\x01.", "state.json cannot be read"),
    "a pickle": (pickle.dumps({"training": TRAINING}), "state.json cannot be read"),
    "nothing": (b"", "state.json cannot be read"),
    "half of it": (with_node("null")[:-5], "state.json cannot be read"),
    "something behind it": (with_node("null") + b"{}", "state.json cannot be read"),
    "lists nested deeply": (b"[" * 10**6, "is nested too deeply"),
    "a list of lists": (with_node("[" * 500 + "]" * 500), "nested too deeply"),
    "dictionaries nested deeply": (with_node('{"dict":{"a":' * 200 + "1" + "}}" * 200), "nested too deeply"),
    "a name twice": (with_node('{"dict":{"a":1,"a":2}}'), "has the name 'a' twice"),
    "a bare NaN": (with_node("NaN"), "has the value NaN"),
    "a bare infinity": (with_node("-Infinity"), "has the value -Infinity"),
    "an integer of 10,000 digits": (with_node("9" * 10_000), "state.json cannot be read"),
    "an unknown kind": (with_node('{"object":"os.system"}'), "a value of the unknown kind 'object'"),
    "a kind and another": (with_node('{"tuple":[],"dict":{}}'), "a value of the unknown kind 'tuple'"),
    "an empty object": (with_node("{}"), "a value of an unknown form"),
    "a dictionary that is a list": (with_node('{"dict":[]}'), "a value of an unknown form"),
    "a tuple that is a text": (with_node('{"tuple":"abc"}'), "a value of an unknown form"),
    "items that are no pairs": (with_node('{"items":[[1]]}'), "a value of an unknown form"),
    "items that are no list": (with_node('{"items":{"1":2}}'), "a value of an unknown form"),
    "a key that cannot be hashed": (with_node('{"items":[[[],1]]}'), "a key of a wrong type, or with one key twice"),
    "a key that is a tuple": (
        with_node('{"items":[[{"tuple":[1]},1]]}'),
        "a key of a wrong type, or with one key twice",
    ),
    "a key twice": (with_node('{"items":[[1,2],[1,3]]}'), "a key of a wrong type, or with one key twice"),
    "a float that is a word": (with_node('{"float":"many"}'), "an invalid float"),
    "a float that is a number": (with_node('{"float":1.5}'), "an invalid float"),
    "half a complex number": (with_node('{"complex":[1.0]}'), "an invalid complex number"),
    "a complex number of texts": (with_node('{"complex":["1","2"]}'), "an invalid complex number"),
    "bytes that are no base64": (with_node('{"bytes":"%%%"}'), "invalid bytes"),
    "bytes that are a number": (with_node('{"bytes":3}'), "invalid bytes"),
    "a dtype of another name": (with_node('{"dtype":"load"}'), "a dtype that torch does not have"),
    "a dtype that is a list": (with_node('{"dtype":[1]}'), "a dtype that torch does not have"),
    "a device of another name": (with_node('{"device":"../x"}'), "a device that torch does not have"),
    "a device that is a list": (with_node('{"device":[1]}'), "a device that torch does not have"),
    "a negative size": (with_node('{"size":[-1]}'), "an invalid size"),
    "a size of 10**30": (with_node('{"size":[1000000000000000000000000000000]}'), "an invalid size"),
    "a size of floats": (with_node('{"size":[1.5]}'), "an invalid size"),
    "a tensor that is not there": (with_node('{"tensor":"weight"}'), "lacks the tensor 'weight'"),
    "a tensor with a number": (with_node('{"tensor":3}'), "lacks the tensor '3'"),
}


@pytest.mark.parametrize("case", ODD)
def test_json_that_no_save_has_written_is_refused(case, newest):
    content, says = ODD[case]
    put(newest, json=content, safetensors=save({}))
    said = refused(lambda: load_checkpoint(newest), CheckpointError)
    assert said.startswith("checkpoints/step_0000004 is not a whole checkpoint: state.json ")
    assert says in said
    assert not Path("harmed").exists()
    with pytest.warns(UserWarning, match="skipped for step_0000002"):
        assert load_newest("checkpoints").step == 2


# --- tensors ---------------------------------------------------------------------------------------------

X = torch.arange(6.0).reshape(2, 3)
NAMED = {
    "a tensor that nothing names": ("null", {"x": X}, "1 tensors that the JSON does not name, such as 'x'"),
    "a tensor that is named twice": ('[{"tensor":"x"},{"tensor":"x"}]', {"x": X}, "or names it twice"),
    "a stride of zero": ('{"tensor":"x","stride":[0,0]}', {"x": X}, "strides do not fit"),
    "a negative stride": ('{"tensor":"x","stride":[-3,1]}', {"x": X}, "strides do not fit"),
    "strides of 2**40": (f'{{"tensor":"x","stride":[{2**40},1]}}', {"x": X}, "strides do not fit"),
    "strides that overlap": ('{"tensor":"x","stride":[1,1]}', {"x": X}, "strides do not fit"),
    "strides with gaps": ('{"tensor":"x","stride":[6,2]}', {"x": X}, "strides do not fit"),
    "one stride for two sizes": ('{"tensor":"x","stride":[1]}', {"x": X}, "strides do not fit"),
    "a stride that is a float": ('{"tensor":"x","stride":[3.0,1]}', {"x": X}, "strides do not fit"),
    "strides that are a text": ('{"tensor":"x","stride":"31"}', {"x": X}, "a value of an unknown form"),
    "bytes that are three floats": ('{"tensor":"x","bytes_of":"complex64"}', {"x": X}, "not those of its type"),
    "three bytes for eight": ('{"tensor":"x","bytes_of":"complex64"}', {"x": X.byte()}, "not those of its type"),
    "one byte without a dimension": (
        '{"tensor":"x","bytes_of":"uint16"}',
        {"x": X[0, 0].byte()},
        "not those of its type",
    ),
    "bytes of a quantized type": ('{"tensor":"x","bytes_of":"quint8"}', {"x": X.byte()}, "not those of its type"),
    "bytes of a list": ('{"tensor":"x","bytes_of":[1]}', {"x": X.byte()}, "not those of its type"),
}


@pytest.mark.parametrize("case", NAMED)
def test_tensors_that_do_not_fit_the_json_are_refused(case, newest):
    node, tensors, says = NAMED[case]
    put(newest, json=with_node(node), safetensors=save(tensors))
    assert says in refused(lambda: load_checkpoint(newest), CheckpointError)


HEADERS = {
    "nothing": lambda header, body: b"",
    "a pickle": lambda header, body: pickle.dumps({}),
    "a length of 2**63": lambda header, body: put_together(header, body, 2**63),
    "a list": lambda header, body: put_together(b"[]", body),
    "lists nested deeply": lambda header, body: put_together(b"[" * 60_000, body),
    "bytes left over": lambda header, body: put_together(header, body + bytes(100)),
    "bytes missing": lambda header, body: put_together(header, body[:-4]),
    "an unknown type": lambda header, body: put_together(changed(header, dtype="F33"), body),
    "a size of 10**30": lambda header, body: put_together(changed(header, shape=[10**30]), body),
    "sizes whose product overflows": lambda header, body: put_together(changed(header, shape=[2**32] * 3), body),
    "a negative size": lambda header, body: put_together(changed(header, shape=[-1, -8]), body),
    "offsets beyond the file": lambda header, body: put_together(changed(header, data_offsets=[10**9, 10**10]), body),
    "a thousand names more": lambda header, body: put_together(
        header | {f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [len(body)] * 2} for i in range(1000)}, body
    ),
}


def changed(header, **entries):
    return {**header, min(header): header[min(header)] | entries}


@pytest.mark.parametrize("case", HEADERS)
def test_a_file_of_tensors_with_another_header_is_refused(case, newest):
    put(newest, safetensors=HEADERS[case](*taken_apart(newest / TENSORS)))
    said = refused(lambda: load_checkpoint(newest), CheckpointError)
    assert said.startswith("checkpoints/step_0000004 is not a whole checkpoint: state.")


# --- states ----------------------------------------------------------------------------------------------

STATES = {
    "a list": [1],
    "other names": {"a": 1},
    "no ranks": {"training": TRAINING, "ranks": [], "callbacks": []},
    "ranks that are none": {"training": TRAINING, "ranks": [{"random": {}}], "callbacks": []},
    "ranks that are texts": {"training": TRAINING, "ranks": ["first"], "callbacks": []},
    "a callback without a name": {"training": TRAINING, "ranks": RANKS, "callbacks": [{"state": {}}]},
    "no training": {"training": None, "ranks": RANKS, "callbacks": []},
    "an empty training": {"training": {}, "ranks": RANKS, "callbacks": []},
    "a history that is none": {"training": TRAINING | {"history": [3]}, "ranks": RANKS, "callbacks": []},
    "steps that are a text": {"training": TRAINING | {"steps_done": "4"}, "ranks": RANKS, "callbacks": []},
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_of_something_else_is_refused(case, newest):
    put(newest, **of_state(STATES[case]))
    said = refused(lambda: load_checkpoint(newest), CheckpointError)
    assert said == "checkpoints/step_0000004 is not a whole checkpoint: state.json does not hold a training's state"


def test_a_state_of_another_step_is_refused(newest):
    put(newest, **of_state({"training": TRAINING | {"steps_done": 5}, "ranks": RANKS, "callbacks": []}))
    assert "state.json is of another step than manifest.json" in refused(
        lambda: load_checkpoint(newest), CheckpointError
    )


@pytest.mark.slow
def test_ten_million_values_take_time_in_proportion(newest):
    put(newest, json=with_node("[" + "1," * 10**7 + "1]"), safetensors=save({}))
    started = time.monotonic()
    assert len(load_checkpoint(newest).state["training"]["odd"]) == 10**7 + 1
    assert time.monotonic() - started < 300


BROKEN = {
    "no generator": lambda state: state["training"].pop("generator"),
    "a generator that is none": lambda state: state["training"].update(generator=3),
    "parts that are none": lambda state: state["training"].update(parts=None),
    "an optimizer that is none": lambda state: state["training"].update(generator_optimizer=[]),
    "an average that is none": lambda state: state["training"].update(average=3),
    "metrics that are none": lambda state: state["training"].update(metrics={"x": 3}),
    "random numbers that are none": lambda state: state["ranks"][0]["random"].update(noise=torch.zeros(3)),
    "a place that is none": lambda state: state["ranks"][0].update(data={}),
    "another number of ranks": lambda state: state["ranks"].append(state["ranks"][0]),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_state_of_another_training_is_refused_when_it_is_restored(change, newest):
    state = load_checkpoint(newest).state
    BROKEN[change](state)
    put(newest, **of_state(state))
    found = load_checkpoint(newest)
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    said = refused(lambda: found.restore(trainer, batches), CheckpointError)
    assert said.startswith("checkpoints/step_0000004 must hold the state of ")
    assert trainer.state.resumed_from is None


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [STATE, TENSORS, "manifest.json"])
def test_a_link_to_another_place_is_not_followed(target, newest):
    content = (newest / target).read_bytes()
    Path("elsewhere").write_bytes(content)
    (newest / target).unlink()
    (newest / target).symlink_to(Path("elsewhere").resolve())
    assert f"{target} is not a file" in refused(lambda: load_checkpoint(newest), CheckpointError)


def test_a_checkpoint_that_is_a_link_is_none_and_is_replaced(newest):
    shutil.copytree(newest, "precious")
    shutil.rmtree(newest)
    newest.symlink_to(Path("precious").resolve())
    assert load_newest("checkpoints").step == 2
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    load_newest("checkpoints").restore(trainer, batches)
    with Checkpointer("checkpoints", every_steps=2, keep_last=1) as checkpointer:
        trainer.callbacks.append(checkpointer)
        trainer.fit(batches, steps=6)
    assert [path.name for path in Path("checkpoints").glob("step*")] == ["step_0000006"]
    assert sorted(path.name for path in Path("precious").iterdir()) == ["manifest.json", "state.json", TENSORS]


def test_what_the_next_start_removes_is_in_the_folder_alone(newest):
    """A temporary name that is a link: the link goes, what it leads to stays."""
    Path("precious").mkdir()
    Path("precious/file").write_text("x")
    Path("checkpoints/.unfinished_step_0000009_1").symlink_to(Path("precious").resolve())
    Path("checkpoints/.unfinished_file").write_text("x")
    os.mkfifo("checkpoints/.unfinished_pipe")
    Checkpointer("checkpoints", every_steps=1)
    assert Path("precious/file").read_text() == "x"
    assert not list(Path("checkpoints").glob(".*"))
