"""Files of weights whose headers lie: one typed error each, in bounded memory and time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from gankit.errors import BadArgumentsError, DataNotFoundError
from tests.hostile.bounds import LOADS, put_together, refused, taken_apart


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


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("header", HEADERS)
def test_weights_with_another_header_are_refused(header, load, run):
    file = run / "averaged_generator.safetensors"
    file.write_bytes(HEADERS[header](*taken_apart(file)))
    said = refused(LOADS[load], BadArgumentsError)
    assert said.startswith("run/averaged_generator.safetensors must hold the recipe's ")


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_other_weights_are_checked_too(name, run):
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
            refused(LOADS[load], BadArgumentsError if name == "recipe.json" else DataNotFoundError)
