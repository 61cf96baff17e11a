"""A spec can be restored from its short form, its JSON form and a pickle, and refuses values without a form."""

from __future__ import annotations

import json
import keyword
import pickle

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from gankit import Spec
from gankit.errors import BadArgumentsError

NAMES = st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True).filter(
    lambda key: key != "name" and not keyword.iskeyword(key)  # no factory has an argument with such a name
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
# strings that something could mistake for a number, a constant or punctuation
TRICKY = [
    "true",
    "True",
    "null",
    "None",
    "NaN",
    "Infinity",
    "1",
    "1e5",
    "a,b",
    "a=b",
    "a:b",
    "[1]",
    '"',
    "'",
    "",
    " a ",
]


def specs_of(values):
    return st.builds(lambda name, arguments: Spec(name, **arguments), NAMES, st.dictionaries(KEYS, values, max_size=4))


VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | specs_of(inner), max_leaves=6)
SPECS = specs_of(VALUES)


@settings(max_examples=60, deadline=None)
@given(spec=SPECS)
def test_the_short_form_reads_back_as_the_same_spec(spec):
    assert Spec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", TRICKY)
def test_a_string_stays_a_string_in_the_short_form(text):
    spec = Spec("mlp", block=text, widths=(text, 1), depth=2)
    assert Spec.parse(str(spec)) == spec


@settings(max_examples=60, deadline=None)
@given(spec=SPECS)
def test_the_json_form_reads_back_as_the_same_spec(spec):
    form = spec.to_dict()
    assert Spec.from_dict(form) == spec
    assert Spec.from_dict(json.loads(json.dumps(form))) == spec


@settings(max_examples=60, deadline=None)
@given(spec=SPECS)
def test_a_copy_is_equal_and_has_the_same_hash(spec):
    for copy in (
        pickle.loads(pickle.dumps(spec)),
        Spec(spec.name, **dict(reversed(spec.arguments.items()))),
        Spec.from_dict(spec.to_dict()),
    ):
        assert copy == spec
        assert hash(copy) == hash(spec)
        assert {spec: "found"}[copy] == "found"


@settings(max_examples=60, deadline=None)
@given(spec=SPECS)
def test_the_repr_is_the_call_that_makes_it(spec):
    assert eval(repr(spec), {"Spec": Spec, "inf": float("inf")}) == spec


@pytest.mark.parametrize(
    "other",
    [Spec("adam"), Spec("adam", lr=0.2), Spec("adam", lr=0.1, amsgrad=True), Spec("sgd", lr=0.1), "adam:lr=0.1"],
)
def test_specs_of_other_names_or_arguments_differ(other):
    assert Spec("adam", lr=0.1) != other


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mlp", Spec("mlp")),
        (" mlp ", Spec("mlp")),
        ("mlp:hidden_dim=128", Spec("mlp", hidden_dim=128)),
        ("mlp: hidden_dim = 128 , depth = 3", Spec("mlp", hidden_dim=128, depth=3)),
        ("mlp:widths=[64, 32],block=maxout", Spec("mlp", widths=(64, 32), block="maxout")),
        ("mlp:block='maxout'", Spec("mlp", block="maxout")),
        ('mlp:block=""', Spec("mlp", block="")),
        ("adam:betas=[0.5,0.999],amsgrad=true", Spec("adam", betas=(0.5, 0.999), amsgrad=True)),
        ("adam:amsgrad=False,weight_decay=None", Spec("adam", amsgrad=False, weight_decay=None)),
        ("adam:lr=1e-4", Spec("adam", lr=0.0001)),
        ("image_folder:root=/data/my-faces.v2", Spec("image_folder", root="/data/my-faces.v2")),
        (
            'mlp:block={"name":"maxout","pieces":5},depth=2',
            Spec("mlp", block=Spec("maxout", pieces=5), depth=2),
        ),
    ],
)
def test_what_people_type_is_read(text, spec):
    assert Spec.parse(text) == spec


def test_lists_and_dictionaries_become_tuples_and_specs():
    spec = Spec("mlp", widths=[[64, 32], 16], block={"name": "maxout", "pieces": 5})
    assert spec.arguments == {"widths": ((64, 32), 16), "block": Spec("maxout", pieces=5)}
    assert spec.to_dict() == {
        "name": "mlp",
        "widths": [[64, 32], 16],
        "block": {"name": "maxout", "pieces": 5},
    }


def test_changing_the_arguments_it_hands_out_changes_nothing():
    spec = Spec("mlp", depth=2)
    spec.arguments["depth"] = 3
    assert spec == Spec("mlp", depth=2)


def test_defaults_fill_only_what_is_not_said():
    spec = Spec("adam", lr=0.1)
    assert spec.with_defaults(lr=0.5, fused=True) == Spec("adam", lr=0.1, fused=True)
    assert spec.with_defaults(self=1) == Spec("adam", lr=0.1, **{"self": 1})
    assert spec == Spec("adam", lr=0.1)


def test_of_takes_names_and_leaves_specs():
    spec = Spec("mlp", depth=2)
    assert Spec.of(spec) is spec
    assert Spec.of("mlp") == Spec("mlp")


@pytest.mark.parametrize("name", ["", 3, None, b"mlp"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(BadArgumentsError, match=rf"must be a non-empty string, got {name!r}$"):
        Spec(name)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("mlp:", "got ''"),
        ("mlp:depth", "got 'depth'"),
        ("mlp:depth=2,", "got ''"),
        ("mlp:depth=2,128", "got '128'"),
        ("mlp:=2", "got '=2'"),
        ("mlp:block='max,out'", 'got "out\'"'),
        ("mlp:hidden dim=2", "got 'hidden dim=2'"),
        ("mlp:depth=2,depth=3", "'depth' is given twice"),
        ("mlp:depth=", "'depth' has no value"),
        ("mlp:depth=,widths=[1]", "'depth' has no value"),
        ("mlp:name=other", "'mlp' cannot have an argument called 'name'"),
        ("mlp:block={}", "needs a 'name', got {}"),
        (":depth=2", "got ''"),
    ],
)
def test_a_short_form_that_cannot_be_meant_is_refused_with_the_place(text, given):
    with pytest.raises(BadArgumentsError) as refusal:
        Spec.parse(text)
    assert given in str(refusal.value)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "{[]:1}"], ids=["digits", "brackets", "braces"])
def test_a_value_that_cannot_be_read_is_a_plain_word(value):
    assert Spec.parse(f"mlp:depth={value}") == Spec("mlp", depth=value)


@pytest.mark.parametrize("form", [{}, {"hidden_dim": 128}, {"name": 3}, {"name": None}])
def test_a_json_form_without_a_name_is_refused(form):
    with pytest.raises(BadArgumentsError) as refusal:
        Spec.from_dict(form)
    assert repr(form) in str(refusal.value)


@pytest.mark.parametrize("form", [False, None, 3, "mlp", ["mlp"]], ids=repr)
def test_what_is_no_mapping_is_no_json_form(form):
    with pytest.raises(BadArgumentsError, match="^a spec's JSON form must be a mapping with a 'name', got "):
        Spec.from_dict(form)


def test_an_argument_called_name_is_refused():
    with pytest.raises(BadArgumentsError, match="spec 'mlp' cannot have an argument called 'name'"):
        Spec("mlp", **{"name": "other"})


def test_an_argument_that_cannot_be_hashed_is_refused():
    with pytest.raises(BadArgumentsError, match=r"must be hashable, got numbers=\{1\}; pass the finished part"):
        Spec("mlp", numbers={1})


@pytest.mark.parametrize("value", [max, 1j, b"bytes", (1, (2, max))])
def test_an_argument_without_a_json_form_is_named(value):
    spec = Spec("mlp", block=value)
    for written in (spec.to_dict, spec.__str__):
        with pytest.raises(BadArgumentsError, match="mlp:block has no JSON form"):
            written()
