"""Who may import whom: imports inside the package point only up this list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gankit

PACKAGE = Path(gankit.__file__).parent

# each room may import those in the lines above its own, and itself
ROOMS = [
    ["errors", "seeds", "version"],
    ["spec", "devices", "pictures", "workers"],
    ["registry", "protocols"],
    ["context"],
    ["blocks", "losses", "augmentations", "latents", "optimizers", "data", "metrics", "testing"],
    ["regularizers", "architectures"],
    ["training"],
    ["presets"],
    ["runs"],
    ["compare"],
    ["cli"],
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

# what else holds: names become objects only in presets, architectures and LossSchedule
NEVER = {
    "training": {"registry", "spec", "losses", "regularizers", "architectures", "blocks", "data", "optimizers"},
    "losses": {"architectures", "blocks", "training", "data"},
    "architectures": {"losses", "regularizers", "training", "data", "optimizers"},
    "blocks": {"losses", "architectures"},
    "regularizers": {"losses", "architectures"},
    "data": {"training", "losses", "architectures"},
    "metrics": {"registry", "spec", "devices", "pictures"},
    "testing": {"seeds", "version", "devices", "pictures"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of gankit a file imports, type-checking imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module} if node.module != "gankit" else {f"gankit.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name == "gankit" or name.startswith("gankit.")}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_the_list(path):
    room = room_of(path)
    assert room in FLOOR, f"{room} has no place in the list"
    for module in imports(path):
        other = module.split(".")[1]
        assert other in FLOOR, f"{path.name} imports {module}: the facade is for users"
        if other != room:
            assert FLOOR[other] < FLOOR[room], f"{room} must not import {other}"
            assert other not in NEVER.get(room, ()), f"{room} must not know {other}"


def test_nothing_imports_the_checks_for_parts():
    for path in FILES:
        if room_of(path) != "testing":
            assert not any(module.startswith("gankit.testing") for module in imports(path)), path


def test_files_of_one_room_import_each_other_without_a_circle():
    graph = {}
    for path in FILES:
        module = ".".join(["gankit", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazily = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
            if isinstance(inner, ast.ImportFrom)
            for name in [inner.module]
        }
        graph[module] = imports(path) - lazily - {module}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        for other in graph.get(module, ()):
            visit(other, (*trail, module))

    for module in graph:
        visit(module, ())
