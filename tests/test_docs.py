"""The documentation: its code runs, its output is real, its pages are complete, what it names is there.

In a page, a ```python block is run; a ```text block right after it is its output. A ```console block holds
commands after `$ ` and their output; where it shows none, and in a ```sh block, `gankit` commands are only read.
`...` in an output stands for anything. Blocks of one page run in order, in one folder and one namespace. A line
`<!-- not run: why -->` before a block leaves it out.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import gankit
from gankit import cli

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gankit.__file__).parent
DOCS = ROOT / "docs"
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")

BLOCK = re.compile(r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: [^>]+-->\s*\Z")


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    body: str
    line: int
    is_run: bool
    follows_directly: bool


def blocks_of(text: str) -> list[Block]:
    found, end = [], 0
    for match in BLOCK.finditer(text):
        between = text[end : match.start()]
        line = text.count("\n", 0, match.start()) + 2
        found.append(
            Block(match["language"], match["body"], line, not NOT_RUN.search(between), not between.strip() and end > 0)
        )
        end = match.end()
    return found


def assert_output(said: str, expected: str, where: str) -> None:
    checker = doctest.OutputChecker()
    said = "\n".join(line.rstrip() for line in said.splitlines()) + "\n"
    assert checker.check_output(expected, said, doctest.ELLIPSIS), f"{where} says\n{said}\ninstead of\n{expected}"


def run_commands(block: Block, where: str) -> None:
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = shlex.split(command)
        assert program == "gankit", f"{where}: only gankit's own commands are run"
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main(arguments)
        assert_output(said.getvalue(), expected, f"{where}: {command}")


def read_commands(block: Block) -> None:
    for line in block.body.replace("\\\n", "").splitlines():
        program, *arguments = shlex.split(line.strip().removeprefix("$ "), comments=True) or [""]
        if program == "gankit":
            cli.build_parser().parse_args(arguments)


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Take back what a page registers; keep torch to one thread, so that a busy machine stalls nobody."""
    shelves = {registry: dict(registry._factories) for registry in cli.REGISTRIES.values()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for registry, factories in shelves.items():
        registry._factories = factories


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_code_runs_and_says_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__page__"}
    said: io.StringIO | None = None
    for block in blocks_of(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        before, said = said, None
        if not block.is_run:
            continue
        if block.language == "python":
            said = io.StringIO()
            # as many empty lines before it as make a traceback name the page's own line
            code = compile("\n" * (block.line - 1) + block.body, str(page), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(said):
                exec(code, namespace)
        elif block.language == "text" and block.follows_directly and before is not None:
            assert_output(before.getvalue(), block.body, where)
        elif block.language == "console" and any(not line.startswith("$ ") for line in block.body.splitlines()):
            run_commands(block, where)
        elif block.language in ("console", "sh", "bash"):
            read_commands(block)


# --- completeness ----------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(pages)


def test_every_public_module_has_a_reference_page() -> None:
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    public = {room for room in rooms if not room.startswith("_")} - {"version"}  # nothing but a number
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
    listed = re.findall(r"^\| \[(\w+)\]", pages.pop("index"), re.MULTILINE)
    assert pages.keys() == public == set(listed)
    for name, text in pages.items():
        assert text.startswith(f"::: gankit.{name}\n")


# --- the page on the architecture ------------------------------------------------------------------------

STEPS = re.findall(r"`gankit/([\w/]+\.py)`, `([\w.]+)`", ARCHITECTURE)


def names_in(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name
            yield from names_in(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize(("file", "name"), sorted(set(STEPS)))
def test_a_walk_names_what_is_there(file: str, name: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    assert name in set(names_in(tree))


WALKS = re.findall(r"^## (Walk \d.*?)\n(.*?)(?=^## )", ARCHITECTURE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("walk", [text for _, text in WALKS], ids=[title for title, _ in WALKS])
def test_a_walk_enters_a_file_once(walk: str) -> None:
    files = re.findall(r"`gankit/([\w/]+\.py)`", walk)
    assert len(files) > 5
    assert sorted(files) == sorted(set(files))


def imports_of(room: str) -> set[str]:
    folder = PACKAGE / room
    found = set()
    for path in folder.rglob("*.py") if folder.is_dir() else [PACKAGE / f"{room}.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gankit."):
                found.add(node.module.split(".")[1])
    return found - {room}


def test_the_table_of_imports_is_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", ARCHITECTURE, re.MULTILINE)
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {room for room, _ in rows} == {room for room in rooms if not room.startswith("_")}
    for room, imported in rows:
        assert set(re.findall(r"`(\w+)`", imported)) == imports_of(room), room


def test_the_picture_shows_every_room() -> None:
    drawn = re.findall(r'class="room"[^>]*>(\w+)<', (DOCS / "layers.svg").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)
    assert sorted(drawn) == sorted(rows)
