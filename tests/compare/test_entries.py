"""Variants of a preset as text and as objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gankit import Preset, Spec
from gankit.compare import Entry, split_entries
from gankit.errors import BadArgumentsError, BadValueError
from gankit.losses import LossSchedule
from gankit.presets import ring, vanilla_mnist

KL = Spec("f_divergence", divergence="kl")
HALF = Spec("mlp", hidden_dim=64, block="maxout")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("hinge", {"loss": Spec("hinge")}),
        ("hinge+none", {"loss": Spec("hinge"), "regularizers": ()}),
        ("minimax+r1", {"loss": Spec("minimax"), "regularizers": (Spec("r1"),)}),
        (
            "f_divergence:divergence=kl+r1:weight=1e+2,every=4+weight_clipping",
            {"loss": KL, "regularizers": (Spec("r1", weight=100.0, every=4), Spec("weight_clipping"))},
        ),
        ("unchanged", {}),
        ("unchanged+r1", {"regularizers": (Spec("r1"),)}),
        ("generator=mlp:hidden_dim=64,block=maxout", {"generator": HALF}),
        (
            "averaging_decay=0.99+r1+none_such",
            {"averaging_decay": 0.99, "regularizers": (Spec("r1"), Spec("none_such"))},
        ),
        ("hinge+averaging_decay=none+steps=7", {"loss": Spec("hinge"), "averaging_decay": None, "steps": 7}),
        ("loss=hinge", {"loss": Spec("hinge")}),
        ("precision=bfloat16+averaging_ramp=false", {"precision": "bfloat16", "averaging_ramp": False}),
    ],
)
def test_an_entry_is_what_it_changes(text, changes):
    entry = Entry.parse(text)
    assert entry.changes == changes
    assert entry == Entry(**changes)
    assert Entry.parse(entry.label) == entry
    assert hash(Entry.parse(entry.label)) == hash(entry)


def test_a_label_is_short_and_begins_with_loss_and_regularizers():
    assert Entry().label == "unchanged"
    assert Entry(steps=7, regularizers=["r1"], loss="hinge").label == "hinge+r1+steps=7"
    assert Entry(generator=HALF).label == "generator=mlp:hidden_dim=64,block=maxout"
    assert Entry(generator=HALF, regularizers=[]).label == "unchanged+none+generator=mlp:hidden_dim=64,block=maxout"
    assert "2000" in Entry(loss=LossSchedule({0: "hinge", 2000: "minimax"})).label


part_specs = st.builds(
    Spec,
    st.sampled_from(["mlp", "dcgan"]),
    hidden_dim=st.integers(1, 99),
    rate=st.floats(-1e9, 1e9),
    widths=st.lists(st.integers(1, 9)),
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "loss": part_specs,
        "regularizers": st.lists(part_specs, max_size=2).map(tuple),
        "generator": part_specs,
        "discriminator_optimizer": part_specs,
        "steps": st.integers(1, 10**9),
        "averaging_decay": st.none() | st.floats(0, 1, exclude_max=True),
        "learning_rate_decay": st.booleans(),
        "precision": st.sampled_from(["float32", "bfloat16"]),
    },
)


@given(changes)
def test_every_label_can_be_read(changed):
    assert Entry.parse(Entry(**changed).label) == Entry(**changed)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hinge", ["hinge"]),
        ("a,b,c", ["a", "b", "c"]),
        ("a,,b,", ["a", "b"]),
        ("a:x=1,y=2,b", ["a:x=1,y=2", "b"]),
        ("a:x=1,b:y=2,z=3+r1:weight=1,every=2,c", ["a:x=1", "b:y=2,z=3+r1:weight=1,every=2", "c"]),
        ("a:x=[1,2],b", ["a:x=[1,2]", "b"]),
    ],
)
def test_commas_between_losses_are_told_from_those_between_arguments(text, parts):
    assert split_entries(text) == parts


def test_what_an_entry_does_not_change_is_as_in_the_preset():
    assert Entry().applied_to(ring) == ring
    assert Entry.parse("minimax").applied_to(ring) == ring.replace(loss="minimax")
    assert Entry.parse("minimax+none").applied_to(ring) == ring.replace(loss="minimax", regularizers=())
    assert Entry(generator=HALF).applied_to(vanilla_mnist) == vanilla_mnist.replace(generator=HALF)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a spec's name must be a non-empty string"),
        ("a:", "after 'a:' write argument=value"),
        ("a:x", "after 'a:' write argument=value"),
        ("+r1", "a spec's name must be a non-empty string"),
        ("generater=mlp", "Did you mean 'generator'"),
        ("generator=", "a spec's name must be a non-empty string"),
        ("steps=", "it has no value"),
        ("steps=1,batch_size=2", "steps must have one value, got '1,batch_size=2'; fields are separated by plus signs"),
        ("steps=1+steps=2", "steps is given twice"),
        ("hinge+loss=minimax", "loss is given twice"),
        ("regularizers=r1", "written after a plus sign"),
        ("data=mnist", "data must be the same for all entries of a comparison, got 'mnist'"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused(text, says):
    with pytest.raises(BadArgumentsError, match=says):
        Entry.parse(text)


@pytest.mark.parametrize("field", ["name", "description", "data", "sample_shape", "sample_range"])
def test_what_is_learned_is_the_same_for_all(field):
    with pytest.raises(BadArgumentsError, match=f"{field} must be the same for all entries"):
        Entry(**{field: ring.fields()[field]})


def test_every_other_field_of_a_preset_can_be_changed():
    fields = set(ring.fields()) - {"name", "description", "data", "sample_shape", "sample_range"}
    for field in fields:
        assert Entry(**{field: ring.fields()[field]}).applied_to(ring) == ring


@pytest.mark.parametrize("text", ["steps=0", "averaging_decay=much", "precision=float8"])
def test_a_value_out_of_range_is_refused_where_it_is_applied(text):
    with pytest.raises(BadValueError, match=text.partition("=")[0]):
        Entry.parse(text).applied_to(ring)


def test_a_value_of_the_wrong_type_is_refused():
    preset: Preset = ring
    with pytest.raises(BadArgumentsError, match="learning_rate_decay must be True or False, got 3"):
        Entry.parse("learning_rate_decay=3").applied_to(preset)
