"""The imports of a package, read from its source: between files, and between the children of each folder.

Every import counts: at the top of a file, inside a function, under `TYPE_CHECKING`, and by `importlib.import_module`
with a name in quotation marks. That importing `a.b` also runs `a/__init__.py` does not count.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FACADE = "__init__"


@dataclass(frozen=True)
class Import:
    """One import of a module of the package.

    Args:
        importer: The module that imports, such as `package.folder.file`.
        imported: The module that is imported: the file itself where `from package.folder import file` names one.
        name: The name that is taken from it, or None if the module itself is imported.
        line: The line of the importer's file.
        is_for_types: Whether the import stands under `if TYPE_CHECKING`.
        is_relative: Whether the import begins with a dot.
    """

    importer: str
    imported: str
    name: str | None
    line: int
    is_for_types: bool = False
    is_relative: bool = False

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}" + (f": {self.name}" if self.name else "")


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by module name; a folder's `__init__.py` has the name of the folder.

    Args:
        package: The package's folder. Its name is the first part of every module name.
    """
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == FACADE else parts)] = path
    return found


def imports_of(modules: Mapping[str, Path], package: str) -> list[Import]:
    """Return every import of a module of `package` by one of `modules`.

    Args:
        modules: The files to read, by module name.
        package: The name of the package whose modules count.
    """
    return [one for module in modules for one in _imports_of_file(module, modules, package)]


def _imports_of_file(module: str, modules: Mapping[str, Path], package: str) -> Iterator[Import]:
    path = modules[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    folder = module.split(".") if path.stem == FACADE else module.split(".")[:-1]
    for node in ast.walk(tree):
        found: list[tuple[str, str | None]] = []
        is_relative = False
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            is_relative = node.level > 0
            base = folder[: len(folder) - node.level + 1] if is_relative else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found = [(source, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            found = [(one.value, None) for one in node.args[:1] if isinstance(one, ast.Constant)]
        for source, name in found:
            if isinstance(source, str) and source.split(".")[0] == package:
                if f"{source}.{name}" in modules:
                    source, name = f"{source}.{name}", None
                yield Import(module, source, name, node.lineno, node in for_types, is_relative)


def between_files(imports: list[Import]) -> dict[str, set[str]]:
    """Return for each module which modules it imports."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        graph.setdefault(one.importer, set()).add(one.imported)
    return graph


def between_children(imports: list[Import], folder: str) -> dict[str, set[str]]:
    """Return for each child of a folder which other children of that folder it imports.

    A child is a file or a folder with all that it contains. The folder's own `__init__.py` is the child `__init__`.

    Args:
        imports: The imports of the package.
        folder: The folder's module name.
    """
    graph: dict[str, set[str]] = {}
    for one in imports:
        importer, imported = child_of(folder, one.importer), child_of(folder, one.imported)
        if importer is not None and imported is not None and (importer != imported or one.importer == one.imported):
            graph.setdefault(importer, set()).add(imported)
    return graph


def child_of(folder: str, module: str) -> str | None:
    """Return the child of a folder to which a module belongs, or None for a module elsewhere.

    Example:
        >>> child_of("a.b", "a.b.c.d"), child_of("a.b", "a.b"), child_of("a.b", "a.c")
        ('c', '__init__', None)
    """
    if module == folder:
        return FACADE
    return module.removeprefix(f"{folder}.").split(".")[0] if module.startswith(f"{folder}.") else None


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other, each group once and sorted; empty for a graph without a cycle.

    Example:
        >>> find_cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}})
        [['b', 'c'], ['d']]
        >>> find_cycles({"a": {"b", "c"}, "b": {"c"}})
        []
    """
    reached = {node: _reached_from(node, graph) for node in graph}
    groups = {
        tuple(sorted(other for other in reached[node] if node in reached.get(other, ())))
        for node in graph
        if node in reached[node]
    }
    return [list(group) for group in sorted(groups)]


def _reached_from(node: str, graph: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    open_nodes = [node]
    while open_nodes:
        for other in graph.get(open_nodes.pop(), set()) - found:
            found.add(other)
            open_nodes.append(other)
    return found


def folders_of(modules: Mapping[str, Path]) -> list[str]:
    """Return the module names of all folders of a package, the package itself first."""
    found = {module for module, path in modules.items() if path.stem == FACADE}
    for module in modules:
        parts = module.split(".")
        found |= {".".join(parts[:count]) for count in range(1, len(parts))}
    return sorted(found)


def cycles(imports: list[Import], folders: list[str]) -> list[str]:
    """Return every cycle between files and between the children of each folder, as text."""
    graphs = {"files": between_files(imports)}
    graphs |= {f"the children of {folder}": between_children(imports, folder) for folder in folders}
    return [f"between {where}: {', '.join(group)}" for where, graph in graphs.items() for group in find_cycles(graph)]


def wrong_directions(imports: list[Import], folder: str, lines: list[list[str]]) -> list[str]:
    """Return the imports between children of a folder that its layout does not allow, as text.

    Args:
        imports: The imports of the package.
        folder: The folder's module name.
        lines: The layout: the folder's children line by line. A child may import those in the lines above its own.
    """
    line_of = {child: number for number, line in enumerate(lines) for child in line}
    found = []
    for one in imports:
        importer, imported = child_of(folder, one.importer), child_of(folder, one.imported)
        if importer in (None, FACADE) or imported is None or importer == imported:
            continue
        for child in (importer, imported):
            if child not in line_of and child != FACADE:
                found.append(f"{child} has no line in the layout of {folder} (tools/layout.py): {one}")
        if imported == FACADE:
            found.append(f"{folder}/__init__.py is for users: {one}")
        elif line_of.get(imported, -1) >= line_of.get(importer, len(lines)):
            found.append(f"{importer} does not stand below {imported} in the layout of {folder}: {one}")
    return found


def names_in(path: Path) -> set[str]:
    """Return every name in the code of a file: annotations in quotation marks count, comments and docstrings do not."""
    source = path.read_text(encoding="utf-8")
    found = {
        token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.NAME
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.count("\n"):
            try:
                quoted = ast.parse(node.value, mode="eval")
            except (SyntaxError, ValueError):
                continue  # a sentence
            found |= {one.id for one in ast.walk(quoted) if isinstance(one, ast.Name)}
    return found
