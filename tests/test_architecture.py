"""Who may import whom, and that the code can be taken apart along these lines."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tools.import_graph import (
    FACADE,
    child_of,
    cycles,
    folders_of,
    imports_of,
    modules_of,
    names_in,
    wrong_directions,
)
from tools.layout import LAYOUT, NEVER

ROOT = Path(__file__).parents[1]
GANKIT = modules_of(ROOT / "gankit")
BENCHMARKS = modules_of(ROOT / "benchmarks")
MODULES = GANKIT | BENCHMARKS
IMPORTS = {"gankit": imports_of(GANKIT, "gankit"), "benchmarks": imports_of(BENCHMARKS, "benchmarks")}


# --- cycles and directions -------------------------------------------------------------------------------


def all_cycles() -> list[str]:
    folders = {"gankit": folders_of(GANKIT), "benchmarks": folders_of(BENCHMARKS)}
    return [found for package, imports in IMPORTS.items() for found in cycles(imports, folders[package])]


def test_no_files_and_no_folders_import_each_other():
    assert not all_cycles()


@pytest.mark.parametrize("folder", ["gankit", "gankit.training", "benchmarks"])
def test_imports_follow_the_layout(folder):
    children = {child_of(folder, module) for module in MODULES} - {None, FACADE}
    assert {child for line in LAYOUT[folder] for child in line} == children, "tools/layout.py"
    assert not wrong_directions(IMPORTS[folder.partition(".")[0]], folder, LAYOUT[folder])


def test_nothing_imports_what_it_must_not_know():
    for one in IMPORTS["gankit"]:
        importer, imported = child_of("gankit", one.importer), child_of("gankit", one.imported)
        assert imported not in NEVER.get(importer, ()), one


def test_nothing_imports_the_checks_for_parts():
    for one in IMPORTS["gankit"]:
        assert "testing" not in {child_of("gankit", one.imported)} - {child_of("gankit", one.importer)}, one


def test_nothing_inside_imports_the_facade():
    assert not [str(one) for one in IMPORTS["gankit"] if one.imported == "gankit" or one.is_relative]


# --- imports for types only ------------------------------------------------------------------------------


def imports_for_types() -> list[str]:
    return [
        str(one)
        for module, path in MODULES.items()
        if path.stem != FACADE
        for one in imports_of({module: path}, "gankit") + imports_of({module: path}, "benchmarks")
        if one.is_for_types
    ]


def test_no_import_is_for_types_only_outside_a_facade():
    assert not imports_for_types()


# --- training --------------------------------------------------------------------------------------------


def test_in_training_only_the_trainer_and_the_callbacks_know_the_trainer():
    """The step, its state, how it runs and how it is saved can be used, tested and read without it."""
    known_to = ("trainer", "evaluation", "callbacks", FACADE)
    knowing = {module for module in GANKIT if child_of("gankit.training", module) in known_to}
    naming = {module for module, path in GANKIT.items() if "AdversarialTrainer" in names_in(path)}
    assert not sorted(module for module in naming - knowing if "gankit.training" in module)


# --- benchmarks ------------------------------------------------------------------------------------------


def public_names(module: str) -> set[str]:
    """The names that a public module exports: `__all__`, or for a single file what it defines."""
    exported = getattr(importlib.import_module(module), "__all__", None)
    if exported is not None:
        return set(exported)
    tree = ast.parse(GANKIT[module].read_text(encoding="utf-8"))
    defined = {one.name for one in tree.body if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    defined |= {
        target.id
        for one in tree.body
        if isinstance(one, (ast.Assign, ast.AnnAssign))
        for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
        if isinstance(target, ast.Name)
    }
    return {name for name in defined if not name.startswith("_")}


# private attributes of torch
OF_TORCH = {"_overloadpacket", "_is_mkldnn_bf16_supported"}


@pytest.mark.parametrize("module", BENCHMARKS)
def test_benchmarks_use_the_public_face_alone(module):
    for one in imports_of({module: BENCHMARKS[module]}, "gankit"):
        assert child_of("gankit", one.imported) is not None, one
        assert one.imported.count(".") <= 1, f"{one}: import it from a module that has a page in the reference"
        assert one.name is None or one.name in public_names(one.imported), one
    for node in ast.walk(ast.parse(BENCHMARKS[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            assert ast.unparse(node.value) in ("self", "cls") or node.attr in OF_TORCH, ast.unparse(node)


# --- that all this would find an offence -----------------------------------------------------------------


def offences(folder: Path, files: dict[str, str], layout: list[list[str]]) -> tuple[list[str], list[str]]:
    """The cycles, and the imports in a wrong direction, of a package with these files."""
    package = folder / "package"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    modules = modules_of(package)
    imports = imports_of(modules, "package")
    return cycles(imports, folders_of(modules)), wrong_directions(imports, "package", layout)


ANY_ORDER = [["a"], ["b"], ["c"]]
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.{} import X\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param(
            {"a.py": "from package.b import X", "b.py": "import package.a"},
            {"files: package.a, package.b", "the children of package: a, b"},
            id="two files",
        ),
        pytest.param(
            {"a.py": "from package.b import X", "b.py": FOR_TYPES.format("c"), "c.py": FOR_TYPES.format("a")},
            {"files: package.a, package.b, package.c", "the children of package: a, b, c"},
            id="types only",
        ),
        pytest.param(
            # the same module at run time and for types: one of the two must not hide the other
            {
                "a.py": "import package.b\n" + FOR_TYPES.format("b"),
                "b.py": "import package.a\n" + FOR_TYPES.format("a"),
            },
            {"files: package.a, package.b", "the children of package: a, b"},
            id="types and run time",
        ),
        pytest.param(
            {"a.py": "def f():\n    from package import b", "b.py": "class C:\n    def f(self): import package.a"},
            {"files: package.a, package.b", "the children of package: a, b"},
            id="in functions",
        ),
        pytest.param(
            {"a.py": "import importlib\nimportlib.import_module('package.b')", "b.py": "from . import a"},
            {"files: package.a, package.b", "the children of package: a, b"},
            id="by name and relatively",
        ),
        pytest.param(
            {
                "a/__init__.py": "",
                "a/low.py": "",
                "a/high.py": "from package.b.x import X",
                "b/__init__.py": "",
                "b/x.py": "from package.a.low import Y",
            },
            {"the children of package: a, b"},
            id="folders whose files are in no cycle",
        ),
        pytest.param(
            {
                "a/__init__.py": "",
                "a/b/__init__.py": "",
                "a/b/low.py": "",
                "a/b/high.py": "from package.a.c import X",
                "a/c.py": "from package.a.b.low import X",
            },
            {"the children of package.a: b, c"},
            id="a folder and a file in a folder",
        ),
        pytest.param(
            {"a/__init__.py": "from package.a.x import X", "a/x.py": "from package.a import y", "a/y.py": ""},
            set(),
            id="a file of the same folder",
        ),
        pytest.param(
            {"a/__init__.py": "from package.a.x import X", "a/x.py": "from package.a import Y"},
            {"files: package.a, package.a.x", "the children of package.a: __init__, x"},
            id="a folder's own facade",
        ),
        pytest.param({"a.py": "", "b.py": "import package.a", "c.py": "import package.a, package.b"}, set(), id="none"),
    ],
)
def test_a_cycle_would_be_found(tmp_path, files, found):
    assert set(offences(tmp_path, files, ANY_ORDER)[0]) == {f"between {one}" for one in found}


@pytest.mark.parametrize(
    ("files", "layout", "message"),
    [
        ({"a.py": FOR_TYPES.format("b"), "b.py": ""}, ANY_ORDER, "a does not stand below b"),
        ({"a.py": "from package.b import X", "b.py": ""}, [["a", "b"]], "a does not stand below b"),
        ({"a/x.py": "def f(): from package.b.y import X", "b/y.py": ""}, ANY_ORDER, "a does not stand below b"),
        ({"a.py": "", "d.py": "import package.a"}, ANY_ORDER, "d has no line in the layout"),
        ({"a.py": "from package import X", "__init__.py": ""}, ANY_ORDER, "package/__init__.py is for users"),
        ({"a.py": "", "b.py": "import package.a", "__init__.py": "import package.b"}, ANY_ORDER, None),
    ],
)
def test_a_wrong_direction_would_be_found(tmp_path, files, layout, message):
    found = offences(tmp_path, files, layout)[1]
    assert any(message in one for one in found) if message else not found


def test_the_trainer_is_found_where_the_code_names_it_and_not_where_prose_does(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""About the One."""\n# One\ndef f(x: "list[Two]") -> Three:\n    """Return One."""\n')
    assert {"Two", "Three"} <= names_in(path)
    assert "One" not in names_in(path)
