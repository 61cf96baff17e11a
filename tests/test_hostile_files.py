"""Files whose hashes are right and whose content means harm: one typed error each, in bounded memory and time."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import resource
import shutil
import struct
import tarfile
import time
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

import gankit
from gankit.errors import BadArgumentsError, CheckpointError, DataNotFoundError, GankitError
from gankit.presets import ring
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, _manifest, load_checkpoint, load_newest
from gankit.training.archives import load_plain

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    averaging_decay=0.9,
)
MOST_BYTES = 512 * 2**20
MOST_SECONDS = 20


@contextlib.contextmanager
def bounded():
    """Refuse this process more memory than a little; hold the time, what ran, and what was written against it."""
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before, started = outside(), time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - started < MOST_SECONDS
    assert outside() == before


def outside() -> set[Path]:
    """Everything in and above the folder that the test runs in: where a canary, or an entry called ../x, would be."""
    return {*Path().rglob("*"), *Path("..").glob("*"), *Path("/").glob("*")}


def refused(call, error=GankitError) -> str:
    with bounded(), pytest.raises(error) as caught:
        call()
    cause = caught.value.__cause__
    assert not isinstance(cause, MemoryError)
    assert "can't allocate" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


# --- safetensors -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with its weights."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    Run(folder, Recipe(preset=POINTS.replace(steps=2), device="cpu")).train(progress=False)
    return folder


@pytest.fixture
def run(finished):
    """A copy of it to write into."""
    shutil.copytree(finished, "run")
    return Path("run")


def taken_apart(file: Path) -> tuple[dict, bytes]:
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def put_together(header, body: bytes, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def header_with(**changes):
    """Change what the header says of its first tensor."""

    def make(header, body):
        return put_together({**header, min(header): header[min(header)] | changes}, body)

    return make


def same_offsets(header, body):
    first, second = sorted(header)[:2]
    return put_together({**header, second: header[second] | {"data_offsets": header[first]["data_offsets"]}}, body)


def shifted(header, body):
    rows = {n: {**v, "data_offsets": [at + 8 for at in v["data_offsets"]]} for n, v in header.items()}
    return put_together(rows, bytes(8) + body)


def twice(header, body):
    first = min(header)
    return put_together(json.dumps({first: header[first]}).encode()[:-1] + b"," + json.dumps(header).encode()[1:], body)


def renamed(name):
    return lambda header, body: put_together({name if n == min(header) else n: v for n, v in header.items()}, body)


def many_names(count):
    empty = {"dtype": "F32", "shape": [0]}

    def make(header, body):
        more = {f"n{i}": {**empty, "data_offsets": [len(body)] * 2} for i in range(count)}
        return put_together(header | more, body)

    return make


def of_type(dtype):
    def make(header, body):
        Path("whole").write_bytes(put_together(header, body))
        content = save({name: tensor.to(dtype) for name, tensor in load_file("whole").items()})
        Path("whole").unlink()
        return content

    return make


HEADERS = {
    "an empty file": lambda header, body: b"",
    "seven bytes": lambda header, body: bytes(7),
    "a length beyond the file": lambda header, body: put_together(header, body, 10_000),
    "a length of 2**40": lambda header, body: put_together(header, body, 2**40),
    "a length of 2**63": lambda header, body: put_together(header, body, 2**63),
    "a length of 2**64 - 1": lambda header, body: put_together(header, body, 2**64 - 1),
    "a length of zero": lambda header, body: put_together(header, body, 0),
    "a header of 100 MB": lambda header, body: put_together(json.dumps(header).encode() + b" " * 10**8, body),
    "no JSON": lambda header, body: put_together(b"\x80\x04K\x01.", body),
    "a list": lambda header, body: put_together(b"[]", body),
    "null": lambda header, body: put_together(b"null", body),
    "a text": lambda header, body: put_together(b'"x"', body),
    "lists nested deeply": lambda header, body: put_together(b"[" * 60_000, body),
    "objects nested deeply": lambda header, body: put_together(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, body),
    "a name twice": twice,
    "overlapping offsets": same_offsets,
    "offsets beyond the file": header_with(data_offsets=[10**9, 10**9 + 32]),
    "reversed offsets": header_with(data_offsets=[32, 0]),
    "negative offsets": header_with(data_offsets=[-32, 0]),
    "a hole": shifted,
    "bytes left over": lambda header, body: put_together(header, body + bytes(100)),
    "bytes missing": lambda header, body: put_together(header, body[:-4]),
    "sizes whose product overflows": header_with(shape=[2**32, 2**32, 2**32]),
    "a size of 10**30": header_with(shape=[10**30]),
    "a size that is negative": header_with(shape=[-1, -8]),
    "a size that is no whole number": header_with(shape=[8.0]),
    "sizes that are a text": header_with(shape="8"),
    "sizes other than the offsets": header_with(shape=[4]),
    "another shape": header_with(shape=[2, 4]),
    "an unknown type": header_with(dtype="F33"),
    "whole numbers of the same size": header_with(dtype="I32"),
    "float16": of_type(torch.float16),
    "float64": of_type(torch.float64),
    "complex numbers": of_type(torch.complex64),
    "another name": renamed("weight"),
    "a name with dots": renamed("../../harmed"),
    "a thousand names more": many_names(500),
    "100,000 names more": many_names(100_000),
    "metadata that is a list": lambda header, body: put_together({**header, "__metadata__": [1]}, body),
}
LOADS = {"load": lambda: gankit.load("run"), "load_trainer": lambda: Run.open("run").load_trainer()}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("header", HEADERS)
def test_weights_with_another_header_are_refused(header, load, run):
    file = run / "averaged_generator.safetensors"
    file.write_bytes(HEADERS[header](*taken_apart(file)))
    said = refused(LOADS[load], BadArgumentsError)
    assert said.startswith("run/averaged_generator.safetensors must hold the recipe's ")


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_other_weights_are_looked_at_likewise(name, run):
    file = run / f"{name}.safetensors"
    file.write_bytes(HEADERS["whole numbers of the same size"](*taken_apart(file)))
    said = refused(LOADS["load_trainer"], BadArgumentsError)
    assert f"must hold the recipe's {name}: " in said
    assert "got I32" in said


@pytest.mark.parametrize("load", LOADS)
def test_a_pipe_in_the_place_of_weights_or_recipe_is_not_waited_for(load, run):
    for name in ("averaged_generator.safetensors", "generator.safetensors", "recipe.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
        if (run / "generator.safetensors").is_fifo() or load == "load_trainer":
            refused(LOADS[load], DataNotFoundError)


# --- recipes ---------------------------------------------------------------------------------------------


def nested(depth):
    form = {"name": "mlp"}
    for _ in range(depth):
        form = {"name": "mlp", "block": form}
    return form


VALUES = [
    *(None, "x", "../../harmed", -1, 0, 10**30, 1.5, [], {}, [1], {"name": 3}, {"name": "../../harmed"}),
    *({"name": "mlp", "widths": widths} for widths in ("abc", [-1], [1.5], [[8]], [10**7] * 2, [1] * 30_000)),
    *({"schedule": schedule} for schedule in ([], {"x": 3}, {"0": 3})),
    *({"name": "normal", "latent_dim": dim} for dim in (10**18, -1, 0)),
    nested(450),
]


def recipes(form):
    for name in form:
        yield from ((f"{name}={value!r:.40}", {**form, name: value}) for value in VALUES)
    for name in form["preset"]:
        preset = form["preset"]
        yield from ((f"{name}={value!r:.40}", {**form, "preset": {**preset, name: value}}) for value in VALUES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what nobody reads
@pytest.mark.parametrize("load", LOADS)
def test_a_recipe_with_any_value_changed_loads_or_is_refused_in_a_sentence(load, run):
    whole = json.loads((run / "recipe.json").read_text())
    tried = 0
    for what, form in recipes(whole):
        (run / "recipe.json").write_text(json.dumps(form))
        with bounded():
            try:
                LOADS[load]()
            except GankitError:
                pass
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"{what}: {type(error).__name__}: {error}")
        tried += 1
    print(f"{tried} recipes")
    assert tried == len(VALUES) * (len(whole) + len(whole["preset"]))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("seed", "x", "seed must be an integer, got 'x'"),
        ("replicas", [1], "replicas must be an integer, got [1]"),
        ("replicas", 10**15, "must have the type and shape F32 (1000000000000000, 8)"),
        ("replicas", 10**30, "replicas must be at most 3.4e38, or 2^63 - 1 for an integer"),
        ("log_every_steps", None, "log_every_steps must be an integer, got None"),
        ("preset", None, "a preset's JSON form must be a mapping of names to values, got None"),
        ("preset", {"batch_size": "many"}, "a preset's batch_size must be int, got 'many'"),
        ("preset", {"generator": nested(450)}, "a recipe must hold a preset: maximum recursion depth exceeded"),
        ("preset", {"generator": {"name": "../../harmed"}}, "unknown generator '../../harmed'"),
        ("preset", {"generator": {"name": "mlp", "widths": [10**7] * 2}}, "must have the type and shape F32 (10000000"),
        ("preset", {"latent": {"name": "normal", "latent_dim": 10**18}}, "cannot be built here: Storage size"),
    ],
)
def test_a_recipe_that_asks_for_the_impossible_is_refused(name, value, says, load, run):
    form = json.loads((run / "recipe.json").read_text())
    form[name] = {**form["preset"], **value} if name == "preset" and value else value
    (run / "recipe.json").write_text(json.dumps(form))
    assert says in refused(LOADS[load])


def test_a_recipe_of_many_layers_is_not_read():
    Path("run").mkdir()
    Path("run/recipe.json").write_text(json.dumps({"widths": [1] * 500_000}))
    assert "must have at most 65536 bytes, got more" in refused(LOADS["load"], BadArgumentsError)


# --- checkpoints -----------------------------------------------------------------------------------------


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


def put(newest: Path, content: bytes) -> None:
    """Write a `state.pt` and the manifest that goes with it."""
    form = json.loads((newest / "manifest.json").read_text())
    del form["sha256"]
    (newest / "state.pt").unlink()
    form["files"]["state.pt"] = _manifest.write_file(newest / "state.pt", lambda file: file.write(content))
    (newest / "manifest.json").write_bytes(_manifest.manifest_bytes(form))


def archive(pickled: bytes, files=(), compression=zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two entries of one name
        entries = [("archive/data.pkl", pickled), ("archive/byteorder", "little"), *files, ("archive/version", "3\n")]
        for name, data in entries:
            made.writestr(name, data)
    return content.getvalue()


def saying(content: bytes, name: bytes, **changes: int) -> bytes:
    """Let an archive's central directory say something else of an entry."""
    places = {"method": (10, "<H"), "inside": (20, "<I"), "outside": (24, "<I"), "offset": (42, "<I")}
    made, at = bytearray(content), 0
    while (at := made.find(b"PK\x01\x02", at)) >= 0:
        length = int.from_bytes(made[at + 28 : at + 30], "little")
        if made[at + 46 : at + 46 + length].endswith(name):
            for what, value in changes.items():
                place, form = places[what]
                struct.pack_into(form, made, at + place, value)
        at += 4
    return bytes(made)


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def calling(module: str, name: str, *texts: str) -> bytes:
    """A pickle that calls a function."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(word, texts)) + b"tR."


def tensor(key="0", count=1, offset=0, size=(1,), stride=(1,), files=(("archive/data/0", bytes(4)),)) -> bytes:
    """An archive of one tensor, which may be larger than its storage."""
    storage = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word(key) + word("cpu") + number(count) + b"tQ"
    sizes = b"".join(b"(" + b"".join(map(number, one)) + b"t" for one in (size, stride))
    pickled = b"\x80\x02}" + word("trainer") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset)
    return archive(pickled + sizes + b"\x89ccollections\nOrderedDict\n)RtRs.", files)


def laughs() -> bytes:
    """Sixty lists, each of which holds the one before twice."""
    made = []
    for _ in range(60):
        made = [made, made]
    return pickle.dumps({"trainer": made}, 2)


def overlapping(count: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps({}, 2))
        made.writestr("archive/data/0", bytes(10**6))
        for i in range(count):
            one = copy.copy(made.filelist[1])
            one.filename = f"archive/data/{i + 1}"
            made.filelist.append(one)
        made._didModify = True
    return content.getvalue()


def two_ends() -> bytes:
    """An archive whose end for large files Python finds by its place, and torch by what another record says."""
    content = io.BytesIO()
    torch.save({}, content)
    whole = content.getvalue()
    return whole[:-34] + struct.pack("<Q", 0) + whole[-26:]


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as made:
        entry = tarfile.TarInfo("../../harmed")
        entry.size = 1
        made.addfile(entry, io.BytesIO(b"x"))
    return content.getvalue()


def plain(state) -> bytes:
    return archive(pickle.dumps(state, 2))


BOMB = archive(
    calling("os", "system", "touch harmed"), [("archive/data/0", bytes(4 * 10**7))], compression=zipfile.ZIP_DEFLATED
)
CODE = "does not load without running code from it"
ODD = "is not an archive as torch writes it"
STATES = {
    # what would run something
    "os.system": (archive(calling("os", "system", "touch harmed")), CODE),
    "posix.system": (archive(calling("posix", "system", "touch harmed")), CODE),
    "eval": (archive(calling("builtins", "eval", "open('harmed', 'w')")), CODE),
    "eval by its old name": (archive(calling("__builtin__", "eval", "open('harmed', 'w')")), CODE),
    "torch.load": (archive(calling("torch", "load", "checkpoints/step_0000002/state.pt")), CODE),
    "torch.serialization.load": (archive(calling("torch.serialization", "load", "x")), CODE),
    "torch.hub.load": (archive(calling("torch.hub", "load", "x", "y")), CODE),
    "getattr": (archive(b"\x80\x02cbuiltins\ngetattr\n(ctorch\nserialization\n" + word("os") + b"tR."), CODE),
    "a chain of attributes": (
        archive(b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93\x8c\x0ctouch harmed\x85R."),
        CODE,
    ),
    "a type's own rebuild": (archive(calling("torch._tensor", "_rebuild_from_type_v2", "x")), CODE),
    "a plain pickle": (calling("os", "system", "touch harmed"), CODE),
    "TorchScript": (
        archive(b"\x80\x02}.", [("archive/constants.pkl", b"\x80\x02)."), ("archive/code/x.py", "1")]),
        ODD,
    ),
    # archives
    "a zip bomb": (BOMB, "is a compressed archive"),
    "a zip bomb in an archive": (archive(BOMB), CODE),
    "a zip bomb that says it is none": (saying(BOMB, b"data/0", method=0), "is a compressed archive"),
    "a zip bomb that says it is small": (saying(BOMB, b"data/0", method=0, outside=4), "is a compressed archive"),
    "sizes that are larger than the file": (saying(tensor(), b"data/0", inside=2**30, outside=2**30), "compressed"),
    "a size that is larger than what is there": (saying(tensor(), b"data/0", outside=2**30), "compressed"),
    "a size of 2**32 - 1": (saying(tensor(), b"data/0", inside=2**32 - 1, outside=2**32 - 1), "compressed"),
    "an offset beyond the file": (saying(tensor(), b"data/0", offset=2**31), CODE),
    "entries that overlap": (overlapping(50), "is a compressed archive"),
    "two pickles of one name": (
        archive(b"\x80\x02}.", [("archive/data.pkl", calling("os", "system", "touch harmed"))]),
        "is an archive with two files of one name",
    ),
    "two pickles, one in capitals": (
        archive(b"\x80\x02}.", [("archive/DATA.PKL", calling("os", "system", "touch harmed"))]),
        "is an archive with two files of one name",
    ),
    "two archives in one file": (BOMB + tensor(), ODD),
    "an archive behind something else": (b"junk" * 100 + tensor(), ODD),
    "an archive in the comment of another": (
        tensor()[:-2] + struct.pack("<H", len(archive(b""))) + archive(b""),
        ODD,
    ),
    "an end that can be read in two ways": (two_ends(), ODD),
    "names that reach outside": (archive(b"\x80\x02}.", [("../../harmed", "x"), ("/harmed", "y")]), CODE),
    "an archive of another kind": (tar(), CODE),
    "nothing": (b"PK\x05\x06" + bytes(18), ODD),
    # tensors
    "2**40 numbers of stride 0": (tensor(size=(2**40,), stride=(0,)), "holds tensors that are larger than the file"),
    "2**20 numbers of stride 0": (tensor(size=(2**20,), stride=(0,)), "holds tensors that are larger than the file"),
    "a storage that is larger than its file": (tensor(count=2**40, size=(2**40,)), CODE),
    "a tensor that is larger than its storage": (tensor(size=(1000,)), CODE),
    "an offset beyond the storage": (tensor(offset=10**6), CODE),
    "a negative offset": (tensor(offset=-5), CODE),
    "a negative stride": (tensor(size=(5,), stride=(-1,)), CODE),
    "a negative size": (tensor(size=(-5,)), CODE),
    "a negative storage": (tensor(count=-5), CODE),
    "a storage outside the archive": (tensor(key="../../../../../../etc/passwd"), CODE),
    "a tensor without storage": (archive(calling("torch._utils", "_rebuild_meta_tensor_no_storage", "x")), CODE),
    "a bytearray of 16 GiB": (archive(b"\x80\x02cbuiltins\nbytearray\n(" + number(2**34) + b"tR."), CODE),
    # pickles
    "tuples nested deeply, to be hashed": (archive(b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s."), "nested too deeply"),
    "tuples nested deeply": (archive(b"\x80\x02)" + b"\x85" * 10**6 + b"."), "is nested too deeply"),
    "dicts nested deeply": (archive(b"\x80\x02" + b"}K\x00" * 10**4 + b"}" + b"s" * 10**4 + b"."), "too deeply"),
    "lists nested deeply": (
        archive(b"\x80\x02" + b"]" * 10**4 + b"a" * (10**4 - 1) + b"."),
        "does not hold a training",
    ),
    "lists that double": (archive(laughs()), "holds one container in two places"),
    "a dict in itself": (
        archive(b"\x80\x02}q\x00" + word("trainer") + b"h\x00s."),
        "holds one container in two places",
    ),
    "a place that is not there": (archive(b"\x80\x02r\xff\xff\xff\xff."), CODE),
    "a text of 2**62 bytes": (archive(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x."), CODE),
    "a number of 2**31 bytes": (archive(b"\x80\x02\x8b\xff\xff\xff\x7f."), CODE),
    "a pickle that ends too soon": (archive(b"\x80\x02}"), CODE),
    # states
    "a list": (plain([1]), "does not hold a training's state"),
    "other names": (plain({"a": 1}), "does not hold a training's state"),
    "ranks that are none": (
        plain(
            {
                "trainer": {"steps_done": 4, "history": []},
                "data": None,
                "callbacks": [],
                "other_ranks": [{"random": {}}],
            }
        ),
        "does not hold a training's state",
    ),
    "no trainer": (
        plain({"trainer": None, "data": None, "callbacks": [], "other_ranks": []}),
        "does not hold a training's state",
    ),
    "an empty trainer": (
        plain({"trainer": {}, "data": None, "callbacks": [], "other_ranks": []}),
        "does not hold a training's state",
    ),
    "a history that is none": (
        plain({"trainer": {"steps_done": 4, "history": [3]}, "data": None, "callbacks": [], "other_ranks": []}),
        "does not hold a training's state",
    ),
    "another step": (
        plain({"trainer": {"steps_done": 5, "history": []}, "data": None, "callbacks": [], "other_ranks": []}),
        "is of another step than manifest.json",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_state_that_torch_did_not_save_is_refused(state, newest):
    content, says = STATES[state]
    put(newest, content)
    said = refused(lambda: load_checkpoint(newest), CheckpointError)
    assert said.startswith("checkpoints/step_0000004 is no whole checkpoint: state.pt ")
    assert says in said
    with pytest.warns(UserWarning, match="skipped for step_0000002"):
        assert load_newest("checkpoints").step == 2


@pytest.mark.slow
def test_ten_million_instructions_take_time_in_proportion(newest):
    put(newest, archive(b"\x80\x02" + b"K\x01" * 10**7 + b"."))
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="does not hold a training's state"):
        load_checkpoint(newest)
    assert time.monotonic() - started < 300


BROKEN = {
    "no generator": lambda state: state["trainer"].pop("generator"),
    "a generator that is none": lambda state: state["trainer"].update(generator=3),
    "parts that are none": lambda state: state["trainer"].update(parts=None),
    "an optimizer that is none": lambda state: state["trainer"].update(generator_optimizer=[]),
    "an average that is none": lambda state: state["trainer"].update(average=3),
    "metrics that are none": lambda state: state["trainer"].update(metrics={"x": 3}),
    "random numbers that are none": lambda state: state["trainer"]["random"].update(noise=torch.zeros(3)),
    "a place that is none": lambda state: state.update(data={}),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_state_of_something_else_is_refused_when_it_is_restored(change, newest):
    state = torch.load(newest / "state.pt", weights_only=True)
    BROKEN[change](state)
    content = io.BytesIO()
    torch.save(state, content)
    put(newest, content.getvalue())
    found = load_checkpoint(newest)
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    said = refused(lambda: found.restore(trainer, batches), CheckpointError)
    assert said.startswith("checkpoints/step_0000004 must hold the state of a trainer like this one: ")


@pytest.mark.parametrize("target", ["state.pt", "manifest.json"])
def test_a_link_to_another_place_is_not_followed(target, newest):
    content = (newest / target).read_bytes()
    Path("elsewhere").write_bytes(content)
    (newest / target).unlink()
    (newest / target).symlink_to(Path("elsewhere").resolve())
    assert f"{target} is not a file" in refused(lambda: load_checkpoint(newest), CheckpointError)


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


def test_all_that_a_state_may_hold_is_loaded():
    names = ["float64", "float16", "bfloat16", "uint8", "int8", "int16", "bool", "uint16", "uint64", "float8_e5m2"]
    layers = OrderedDict(weight=torch.eye(2))
    layers._metadata = OrderedDict({"": {"version": 1}})
    state = {name: (torch.ones(2).to(getattr(torch, name)), getattr(torch, name)) for name in names}
    state |= {"complex": torch.ones(2, dtype=torch.complex64).conj(), "layers": layers, "bytes": b"\xff" * 300}
    state |= {"numbers": [1j, -(2**70), float("inf"), True, None], "empty": [(), (), {}, {}, []], 3: torch.Size([1])}
    state |= {"device": torch.device("cpu"), "none": torch.empty(0), "rows": [{"x" * 300: 1.5}] * 1}
    content = io.BytesIO()
    torch.save(state, content)
    loaded = load_plain(content)
    assert str(loaded) == str(state)
    assert loaded["layers"]._metadata == layers._metadata
