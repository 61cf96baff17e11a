"""A registry builds parts by name, and refuses wrong names and arguments in one sentence."""

from __future__ import annotations

import functools
import importlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest
import torch
from torch import nn

import gankit
from gankit import REGULARIZERS, Registry, Spec
from gankit.errors import BadArgumentsError, BadNameError, DuplicateNameError, PluginWarning, UnknownNameError
from gankit.regularizers import R1

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Hinge:
    """A margin.

    And more about it.
    """

    margin: float = 1.0


def minimax(scale: int, /, *, temperature: float = 1.0) -> tuple[int, float]:
    return scale, temperature


@pytest.fixture
def losses() -> Registry[Any]:
    registry = Registry[Any]("loss")
    registry.register("hinge", Hinge)
    registry.register("minimax", minimax)
    return registry


# --- names -----------------------------------------------------------------------------------------------


def test_a_part_is_registered_by_decorator_and_stays_what_it_was(losses):
    @losses.register("mine")
    class Mine:
        pass

    assert isinstance(Mine, type)
    assert losses.get("mine") is Mine
    assert isinstance(losses.build("mine"), Mine)


def test_a_part_is_registered_directly_and_returned(losses):
    assert losses.register("again", Hinge) is Hinge
    assert losses.build("again") == Hinge()


@pytest.mark.parametrize(
    "name", ["Hinge", "my-loss", "my loss", "_mine", "mine_", "my__loss", "2nd", "", "größe", "a\n"]
)
def test_a_name_that_is_not_snake_case_is_refused(losses, name):
    with pytest.raises(BadNameError) as refusal:
        losses.register(name, Hinge)
    assert str(refusal.value) == (
        f"a loss's name must be snake_case (letters a-z, digits, single underscores), got {name!r}"
    )
    assert name not in losses


@pytest.mark.parametrize("name", ["a", "r1", "wgan_gp", "r1_r2", "mnist_5k"])
def test_snake_case_is_taken(losses, name):
    losses.register(name, Hinge)
    assert name in losses


def test_a_decorator_without_a_name_is_refused(losses):
    with pytest.raises(BadNameError, match=r"a loss's name must be a string, as in register\('my_loss'\), got <class"):
        losses.register(Hinge)


def test_what_builds_nothing_is_refused(losses):
    with pytest.raises(BadArgumentsError, match="loss 'mine' needs a class or function that builds it, got 3"):
        losses.register("mine", 3)


def test_a_taken_name_is_refused_with_both_owners(losses):
    with pytest.raises(DuplicateNameError) as refusal:
        losses.register("hinge", minimax)
    for owner in (Hinge, minimax):
        assert f"{__name__}.{owner.__qualname__}" in str(refusal.value)
    assert losses.get("hinge") is Hinge


@pytest.mark.parametrize("by_decorator", [False, True])
def test_replace_takes_the_name(losses, by_decorator):
    if by_decorator:
        losses.register("hinge", replace=True)(minimax)
    else:
        losses.register("hinge", minimax, replace=True)
    assert losses.get("hinge") is minimax


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["hinge", "minimax", "wasserstein", "wasserstein_dual"]),
        ("wasserstein*", ["wasserstein", "wasserstein_dual"]),
        ("*_dual", ["wasserstein_dual"]),
        ("h?nge", ["hinge"]),
        ("[hm]*", ["hinge", "minimax"]),
        ("hinge", ["hinge"]),
        ("wgan*", []),
    ],
)
def test_names_are_sorted_and_chosen_by_wildcards(losses, pattern, names):
    losses.register("wasserstein_dual", Hinge)
    losses.register("wasserstein", Hinge)
    assert losses.names(pattern) == names


def test_it_is_read_like_a_collection_of_names(losses):
    assert list(losses) == ["hinge", "minimax"]
    assert len(losses) == 2
    assert "hinge" in losses
    assert "hinje" not in losses
    assert repr(losses) == "<Registry of loss: hinge, minimax>"


def test_a_part_is_described_by_its_signature_and_first_sentence(losses):
    losses.register("untyped", lambda a, b=2, *c, d=None, **e: None)
    assert losses.signature("hinge") == "(margin: float = 1.0)"
    assert losses.signature("minimax") == "(scale: int, *, temperature: float = 1.0)"
    assert losses.signature("untyped") == "(a, b=2, *c, d=None, **e)"
    assert losses.summary("hinge") == "A margin."
    assert losses.summary("minimax") == ""


# --- building --------------------------------------------------------------------------------------------


def test_every_kind_of_reference_is_built(losses):
    for ref in ("hinge", Spec("hinge"), Hinge, lambda margin: Hinge(margin), functools.partial(Hinge)):
        assert losses.build(ref, margin=2.0) == Hinge(2.0)
    assert losses.build(Spec("hinge", margin=2.0)) == Hinge(2.0)
    assert losses.build(functools.partial(Hinge, margin=2.0)) == Hinge(2.0)
    assert losses.build("minimax", 3, temperature=0.5) == (3, 0.5)
    assert losses.build(Spec("minimax", temperature=0.5), 3) == (3, 0.5)


@pytest.mark.parametrize("part", [Hinge(3.0), nn.ReLU(), 3, None], ids=repr)
def test_a_finished_part_is_returned_unchanged(losses, part):
    assert losses.build(part) is part


def test_arguments_for_a_finished_part_are_refused(losses):
    with pytest.raises(BadArgumentsError) as refusal:
        losses.build(Hinge(), 3, margin=2.0)
    assert str(refusal.value) == "a finished loss takes no arguments, got 3, margin=2.0 for Hinge"


def test_an_argument_given_twice_is_refused(losses):
    with pytest.raises(BadArgumentsError) as refusal:
        losses.build(Spec("hinge", margin=2.0), margin=3.0)
    assert str(refusal.value) == "loss 'hinge' got 'margin' twice: 2.0 in the spec and 3.0 from the caller"


@pytest.mark.parametrize("ref", ["hinje", Spec("hinje", margin=2.0)])
def test_an_unknown_name_is_answered_with_the_nearest_and_with_all(losses, ref):
    with pytest.raises(UnknownNameError) as refusal:
        losses.build(ref)
    assert str(refusal.value) == "unknown loss 'hinje'. Did you mean 'hinge'? Known: hinge, minimax"


def test_an_unknown_name_far_from_all_is_answered_without_a_guess(losses):
    with pytest.raises(UnknownNameError, match=r"^unknown loss 'zzz'\. Known: hinge, minimax$"):
        losses.build("zzz")
    with pytest.raises(UnknownNameError, match=r"^unknown colour 'red'\. Known: none yet$"):
        Registry[str]("colour").build("red")


def test_a_short_form_taken_for_a_name_is_answered_with_the_way_to_write_it(losses):
    with pytest.raises(UnknownNameError, match=r"Arguments go into a Spec: Spec\.parse\('minimax:temperature=0\.5'\)"):
        losses.build("minimax:temperature=0.5")


@pytest.mark.parametrize("ref", ["r1", Spec("r1")])
def test_a_misspelt_argument_is_answered_with_the_signature_and_the_nearest(ref):
    with pytest.raises(BadArgumentsError) as refusal:
        REGULARIZERS.build(ref, wieght=1.0)
    assert str(refusal.value) == (
        "regularizer 'r1'(weight: float = 10.0, every: int = 1, reduction: Reduction = 'mean', "
        "sigma: float | None = None) got an unexpected argument 'wieght'. Did you mean 'weight'?"
    )


def test_a_misspelt_argument_of_a_spec_or_a_class_is_answered_alike():
    with pytest.raises(BadArgumentsError, match=r"^regularizer 'r1'\(.*\) got an unexpected argument 'wieght'"):
        REGULARIZERS.build(Spec("r1", wieght=1.0))
    for ref in (R1, functools.partial(R1, weight=2.0)):
        with pytest.raises(BadArgumentsError, match=r"^regularizer R1\(.*\) got an unexpected argument 'evry'"):
            REGULARIZERS.build(ref, evry=2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"evry": 2}, "got an unexpected argument 'evry'"), ({"weight": "much"}, "'weight' must be float, got 'much'")],
)
def test_the_arguments_of_a_partial_are_checked_as_others(arguments, says):
    partial = functools.partial(R1, **arguments)
    with pytest.raises(BadArgumentsError, match=rf"^regularizer R1\(.*\).*{says}"):
        REGULARIZERS.build(partial)
    registry = Registry[object]("regularizer")
    registry.register("half", partial)
    with pytest.raises(BadArgumentsError, match=rf"^regularizer 'half'\(.*\).*{says}"):
        registry.build("half")


def test_a_partial_has_the_documentation_of_its_function():
    registry = Registry[object]("regularizer")
    registry.register("strong", functools.partial(R1, weight=100.0))
    assert registry.summary("strong") == REGULARIZERS.summary("r1")
    assert registry.build("strong", every=2).weight == 100.0


def test_a_partial_of_a_finished_part_is_no_factory(losses):
    part = functools.partial(nn.ReLU(), inplace=True)
    assert losses.build(part) is part


def test_the_json_form_of_a_spec_is_built_as_the_spec(losses):
    assert losses.build(Spec("hinge", margin=2.0).to_dict()) == Hinge(2.0)
    assert losses.build({"name": "hinge"}, margin=2.0) == Hinge(2.0)
    with pytest.raises(BadArgumentsError, match="a spec's JSON form needs a 'name'"):
        losses.build({"margin": 2.0})


def test_missing_and_superfluous_arguments_are_answered_with_the_signature(losses):
    signature = re.escape(f"loss 'minimax'{losses.signature('minimax')}: ")
    with pytest.raises(BadArgumentsError, match=signature + "missing a required"):
        losses.build("minimax")
    with pytest.raises(BadArgumentsError, match=signature + "too many positional"):
        losses.build("minimax", 1, 2)
    with pytest.raises(BadArgumentsError, match="got an unexpected argument 'scale'"):
        losses.build("minimax", scale=1)  # it is positional-only


def test_arguments_are_checked_before_the_factory_is_called(losses):
    calls = []
    losses.register("recorded", lambda margin=1.0: calls.append(margin))
    with pytest.raises(BadArgumentsError):
        losses.build("recorded", margn=2.0)
    assert calls == []
    losses.build("recorded", margin=2.0)
    assert calls == [2.0]


def test_a_type_error_from_inside_the_factory_is_its_own(losses):
    @losses.register("broken")
    def broken():
        raise TypeError("from inside")

    with pytest.raises(TypeError, match="from inside") as failure:
        losses.build("broken")
    assert not isinstance(failure.value, BadArgumentsError)


def test_a_factory_that_takes_any_keywords_gets_them(losses):
    losses.register("open", lambda **options: options)
    assert losses.build("open", anything=1) == {"anything": 1}


def test_a_built_in_without_a_signature_is_called_as_it_is(losses):
    losses.register("mapping", dict)
    assert losses.build("mapping", a=1) == {"a": 1}


# --- the types of arguments ------------------------------------------------------------------------------


def typed(
    count: int = 1,
    weight: float = 1.0,
    flag: bool = False,
    word: str = "",
    mode: Literal["a", "b"] = "a",
    channels: Literal[1, 3] = 1,
    maybe: int | None = None,
    perhaps: Optional[float] = None,  # noqa: UP045 (the old spelling is read too)
    widths: Sequence[int] = (),
    pair: tuple[float, float] | None = None,
    anything: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    root: str | Path = "",
    make: Callable[[int], int] | None = None,
) -> dict[str, Any]:
    return dict(locals())


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 2},
        {"weight": 2.0},
        {"weight": 2},
        {"flag": True},
        {"word": "x"},
        {"mode": "b"},
        {"channels": 3},
        {"maybe": 2},
        {"maybe": None},
        {"perhaps": 2.0},
        {"perhaps": 2},
        {"perhaps": None},
        {"widths": [1, 2]},
        {"widths": (1, 2)},
        {"widths": range(3)},
        {"pair": (0.0, 1.0)},
        {"pair": None},
        {"anything": object},
        {"device": "cpu"},
        {"device": torch.device("cpu")},
        {"dtype": torch.float64},
        {"root": "x"},
        {"root": Path("x")},
        {"make": abs},
        {"weight": math.inf},
    ],
    ids=str,
)
def test_an_argument_of_the_right_type_arrives_unchanged(arguments):
    built = Registry[Any]("part").build(typed, **arguments)
    for key, value in arguments.items():
        assert built[key] is value


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("count", True, "int"),
        ("count", 2.0, "int"),
        ("count", "2", "int"),
        ("count", None, "int"),
        ("weight", "0.1", "float"),
        ("weight", True, "float"),
        ("weight", None, "float"),
        ("flag", 1, "bool"),
        ("flag", "yes", "bool"),
        ("word", 1, "str"),
        ("mode", "c", "one of 'a', 'b'"),
        ("mode", None, "one of 'a', 'b'"),
        ("channels", 2, "one of 1, 3"),
        ("maybe", "2", "int | None"),
        ("maybe", True, "int | None"),
        ("perhaps", "2", "Optional[float]"),
        ("widths", "64", "Sequence[int]"),
        ("widths", 64, "Sequence[int]"),
        ("widths", None, "Sequence[int]"),
        ("pair", "01", "tuple[float, float] | None"),
        ("pair", 1.0, "tuple[float, float] | None"),
        ("pair", (1.0,), "tuple[float, float] | None"),
        ("pair", (1.0, "2"), "tuple[float, float] | None"),
        ("widths", (64, "32"), "Sequence[int]"),
        ("widths", (64, 1.5), "Sequence[int]"),
        ("widths", Spec("mlp"), "Sequence[int]"),
        ("device", 1.5, "torch.device | str | None"),
        ("device", Spec("cpu"), "torch.device | str | None"),
        ("dtype", "float32", "torch.dtype | None"),
        ("root", 3, "str | Path"),
        ("make", 3, "Callable[[int], int] | None"),
        ("make", Spec("mlp"), "Callable[[int], int] | None"),
        ("weight", 2**63, "float, at most 3.4e38, or 2^63 - 1 for an integer"),
        ("weight", 1e300, "float, at most 3.4e38, or 2^63 - 1 for an integer"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_with_the_right_one(key, value, wanted):
    registry = Registry[Any]("part")
    registry.register("typed", typed)
    with pytest.raises(BadArgumentsError) as refusal:
        registry.build(Spec("typed", **{key: value}))
    message = str(refusal.value)
    assert message.startswith(f"part 'typed'{registry.signature('typed')}: ")
    assert message.endswith(f": {key!r} must be {wanted}, got {value!r}")


def test_types_of_positional_arguments_and_of_classes_are_checked_too(losses):
    class Plain:
        def __init__(self, margin: float) -> None:
            self.margin = margin

    assert losses.build(Plain, 2).margin == 2
    with pytest.raises(BadArgumentsError, match="'margin' must be float, got '2'"):
        losses.build(Plain, margin="2")
    with pytest.raises(BadArgumentsError, match="'margin' must be float, got '2'"):
        losses.build("hinge", "2")


def test_annotations_that_only_a_type_checker_can_read_stop_nobody(losses):
    @losses.register("foreign")
    def foreign(margin: Decimal) -> Decimal:
        return margin

    assert losses.build("foreign", margin=2.0) == 2.0


@pytest.mark.parametrize(
    ("ref", "argument", "answer"),
    [
        ("hinge", "margin", True),
        (Spec("hinge"), "margin", True),
        (Hinge, "margin", True),
        ("hinge", "temperature", False),
        ("minimax", "temperature", True),
        ("minimax", "scale", False),  # positional-only
        (Hinge(), "margin", False),
    ],
    ids=str,
)
def test_accepts_finds_the_arguments_that_can_be_named(losses, ref, argument, answer):
    assert losses.accepts(ref, argument) is answer


# --- other packages --------------------------------------------------------------------------------------


class Site:
    """A folder on the path that packages can be put into, and a registry they can find: `host_parts.PARTS`."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.add_module(
            "host_parts", "from gankit.registry import Registry\nPARTS = Registry('part', group='host.parts')\n"
        )

    def add_module(self, name: str, code: str) -> None:
        (self.folder / f"{name}.py").write_text(code)
        importlib.invalidate_caches()

    def add_distribution(self, name: str, **entry_points: str) -> None:
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{part} = {value}\n" for part, value in entry_points.items()]
        (info / "entry_points.txt").write_text("[host.parts]\n" + "".join(lines))

    @property
    def parts(self) -> Registry[Any]:
        return importlib.import_module("host_parts").PARTS


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_part_of_another_package_is_listed_and_built(site):
    site.add_module("leaf_parts", "class Leaf:\n    def __init__(self, size: int = 1):\n        self.size = size\n")
    site.add_distribution("leaf-package", leaf="leaf_parts:Leaf")
    assert site.parts.names() == ["leaf"]
    assert site.parts.build("leaf", size=3).size == 3


@pytest.mark.parametrize(
    "look_up",
    [
        lambda parts: parts.names() == ["leaf"],
        lambda parts: parts.get("leaf"),
        lambda parts: parts.build("leaf"),
        lambda parts: "leaf" in parts,
        lambda parts: len(parts) == 1,
        lambda parts: list(parts) == ["leaf"],
        lambda parts: parts.signature("leaf"),
    ],
)
def test_the_first_look_up_loads_it_whichever_that_is(site, look_up):
    site.add_module("leaf_parts", "class Leaf: pass\n")
    site.add_distribution("leaf-package", leaf="leaf_parts:Leaf")
    parts = site.parts
    assert "leaf_parts" not in sys.modules
    assert look_up(parts)
    assert "leaf_parts" in sys.modules


def test_a_module_that_registers_its_part_itself_is_no_duplicate(site):
    site.add_module(
        "leaf_parts", "from host_parts import PARTS\n@PARTS.register('leaf')\nclass Leaf:\n    '''A leaf.'''\n"
    )
    site.add_distribution("leaf-package", leaf="leaf_parts:Leaf")
    assert site.parts.names() == ["leaf"]
    assert site.parts.summary("leaf") == "A leaf."


def test_a_module_may_look_parts_up_while_it_is_loaded(site):
    site.add_module(
        "leaf_parts", "from host_parts import PARTS\nBEFORE = PARTS.names()\nclass Leaf:\n    before = BEFORE\n"
    )
    site.add_distribution("leaf-package", leaf="leaf_parts:Leaf")
    site.parts.register("bark", Hinge)
    assert site.parts.build("leaf").before == ["bark"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no such luck')\n", "RuntimeError: no such luck"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("import a_module_that_is_nowhere\n", "ModuleNotFoundError"),
        ("Other = 3\n", "AttributeError"),
        ("Broken = 3\n", "BadArgumentsError"),
        ("def Broken(:\n", "SyntaxError"),
    ],
)
def test_a_broken_package_warns_by_name_and_stops_nobody(site, code, reason):
    site.add_module("broken_parts", code)
    site.add_module("leaf_parts", "class Leaf: pass\n")
    # one part before and one after the broken package, whatever the order of loading
    site.add_distribution("a-leaf-package", leaf="leaf_parts:Leaf")
    site.add_distribution("broken-package", broken="broken_parts:Broken")
    site.add_distribution("z-leaf-package", other_leaf="leaf_parts:Leaf")
    with pytest.warns(PluginWarning) as warned:
        assert site.parts.names() == ["leaf", "other_leaf"]
    assert len(warned) == 1
    message = str(warned[0].message)
    assert message.startswith("broken-package: the entry point 'broken' = 'broken_parts:Broken' in 'host.parts' failed")
    assert reason in message
    with pytest.raises(UnknownNameError):
        site.parts.build("broken")


def test_a_package_cannot_take_the_name_of_a_part_that_is_there(site):
    site.add_module("leaf_parts", "class Leaf: pass\n")
    site.add_distribution("leaf-package", hinge="leaf_parts:Leaf")
    site.parts.register("hinge", Hinge)
    with pytest.warns(PluginWarning, match="leaf-package: the entry point 'hinge'.*DuplicateNameError"):
        assert site.parts.get("hinge") is Hinge


@pytest.mark.parametrize(
    ("registry", "group"),
    [
        (gankit.BLOCKS, "gankit.blocks"),
        (gankit.DATASETS, "gankit.datasets"),
        (gankit.DISCRIMINATORS, "gankit.discriminators"),
        (gankit.GENERATORS, "gankit.generators"),
        (gankit.LATENTS, "gankit.latents"),
        (gankit.LOSSES, "gankit.losses"),
        (gankit.OPTIMIZERS, "gankit.optimizers"),
        (gankit.PRESETS, "gankit.presets"),
        (gankit.REGULARIZERS, "gankit.regularizers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_packages_can_add_to_every_shelf(registry, group):
    assert registry.group == group


def test_every_public_registry_has_a_group_of_its_own():
    groups = [one.group for one in vars(gankit).values() if isinstance(one, Registry)]
    assert None not in groups
    assert len(set(groups)) == len(groups)
