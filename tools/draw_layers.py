"""Draws `docs/layers.svg`, the picture of the package, from its code and from `tools/layout.py`.

    python -m tools.draw_layers

Each module is a box with the first sentence of its docstring, and a package is one with the names of its files too. A
package that has a layout of its own is drawn with its modules inside.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tools.import_graph import FACADE, child_of, folders_of, modules_of
from tools.layout import LAYOUT

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "layers.svg"

WIDTH, MARGIN, GAP, PADDING = 880, 56, 9, 9
MOST_IN_A_ROW = 3
LINE_HEIGHT = 18
WIDE, NAME_COLUMN = 500, 150
"""A box of at least the first width has its text to the right of its name, which takes the second width."""
TEXT_WIDTH, CODE_WIDTH = 7.8, 8.2
"""The average widths of a character, in the units of the picture."""

STYLE = """
    text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2937; font-size: 14px; }
    .room, .module { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-weight: 600; }
    .room { font-size: 17px; }
    .module { font-size: 15px; }
    .files { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; fill: #475569; }
    .card { fill: #f8fafc; stroke: #cbd5e1; }
    .plain { fill: #e2e8f0; stroke: #94a3b8; }
    .named { fill: #dbeafe; stroke: #60a5fa; }
    .inner { fill: #f8fafc; stroke: #94a3b8; }
    rect { stroke-width: 1.2; }"""


@dataclass
class Box:
    """A module of the picture.

    Args:
        name: The module's name in its folder.
        is_room: Whether it is a child of the package itself.
        has_registry: Whether its parts are found by name.
        width: The width of the box.
        description: What the module is.
        files: The names of the files of a package that has no layout.
        rows: The boxes inside, row by row.
    """

    name: str
    is_room: bool
    has_registry: bool
    width: int
    description: str
    files: list[str]
    rows: list[list[Box]]

    @property
    def text(self) -> list[tuple[str, str]]:
        """The lines of text with their styles."""
        width = self.width - 2 * PADDING - self.indent
        described = textwrap.wrap(self.description, int(width / TEXT_WIDTH))
        files = textwrap.wrap(", ".join(self.files), int(width / CODE_WIDTH))
        return [("text", line) for line in described] + [("files", line) for line in files]

    @property
    def indent(self) -> int:
        """How far the text stands to the right of the name; 0 if it stands below."""
        return NAME_COLUMN if self.width >= WIDE else 0

    @property
    def text_height(self) -> int:
        """The height of the name and the text."""
        return LINE_HEIGHT * (max(1, len(self.text)) if self.indent else 1 + len(self.text))

    @property
    def height(self) -> int:
        """The height that the content needs."""
        return 2 * PADDING + self.text_height + (GAP + height_of(self.rows) if self.rows else 0)

    def draw(self, x: int, y: int, height: int) -> list[str]:
        """Return the elements of the box."""
        kind = "inner" if not self.is_room else "named" if self.has_registry else "plain"
        left, top = x + PADDING, y + PADDING
        line = top + LINE_HEIGHT - 4
        style = "room" if self.is_room else "module"
        found = [
            f'<rect class="{kind}" x="{x}" y="{y}" width="{self.width}" height="{height}" rx="6"/>',
            f'<text class="{style}" x="{left}" y="{line}">{escape(self.name)}</text>',
        ]
        line += 0 if self.indent else LINE_HEIGHT
        for style, words in self.text:
            found.append(f'<text class="{style}" x="{left + self.indent}" y="{line}">{escape(words)}</text>')
            line += LINE_HEIGHT
        return found + draw_rows(self.rows, left, top + self.text_height + GAP)


def height_of(rows: list[list[Box]]) -> int:
    """Return the height of rows of boxes with the gaps between them."""
    return sum(max(box.height for box in row) for row in rows) + GAP * max(0, len(rows) - 1)


def draw_rows(rows: list[list[Box]], x: int, y: int) -> list[str]:
    """Return the elements of rows of boxes. The boxes of a row are as high as the highest."""
    found = []
    for row in rows:
        height = max(box.height for box in row)
        for number, box in enumerate(row):
            found += box.draw(x + number * (box.width + GAP), y, height)
        y += height + GAP
    return found


def rows_of(folder: str, modules: Mapping[str, Path], width: int) -> list[list[Box]]:
    """Return the children of a folder that has a layout, in its order; those without a line come last."""
    children = {child_of(folder, module) for module in modules} - {None, FACADE}
    lines = [[child for child in line if child in children] for line in LAYOUT[folder]]
    lines.append(sorted(children - {child for line in lines for child in line}))
    rows = []
    for line in lines:
        shown = [child for child in line if not child.startswith("_")]
        count = -(-len(shown) // MOST_IN_A_ROW)  # as many rows as needed, of nearly the same length
        for number in range(count):
            row = shown[number * len(shown) // count : (number + 1) * len(shown) // count]
            each = (width - GAP * (len(row) - 1)) // len(row)
            rows.append([box_of(f"{folder}.{child}", modules, each) for child in row])
    return rows


def box_of(module: str, modules: Mapping[str, Path], width: int) -> Box:
    """Return the box of one module."""
    name = module.rpartition(".")[2]
    is_room = module.count(".") == 1
    inside = {one: path for one, path in modules.items() if one == module or one.startswith(f"{module}.")}
    has_layout = module in LAYOUT
    files = {one for file in inside if (one := child_of(module, file)) not in (None, FACADE)}
    return Box(
        name=name if is_room or module not in folders_of(modules) else f"{name}/",
        is_room=is_room,
        has_registry=any(map(makes_registry, inside.values())),
        width=width,
        description=first_sentence(modules[module]),
        files=[] if has_layout else sorted(files),
        rows=rows_of(module, modules, width - 2 * PADDING) if has_layout else [],
    )


def first_sentence(path: Path) -> str:
    """Return the first sentence of a file's docstring, without the marks of code."""
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(words.split("\n\n")[0].split()).replace("`", "")


def makes_registry(path: Path) -> bool:
    """Return whether a file makes a registry, whose parts are found by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [one.value.func for one in tree.body if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)]
    return any(isinstance(one, ast.Subscript) and ast.unparse(one.value) == "Registry" for one in calls)


def picture() -> str:
    """Return the picture."""
    modules = modules_of(ROOT / "gankit")
    width = WIDTH - MARGIN - 2 * GAP
    rows = rows_of("gankit", modules, width)
    end = 2 * GAP + height_of(rows)
    height = end + 44
    names = "; ".join(", ".join(box.name for box in row) for row in rows)
    arrow = GAP + MARGIN // 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            ' aria-labelledby="title desc">',
            "  <!-- drawn by tools/draw_layers.py: do not edit -->",
            '  <title id="title">The modules of gankit in layers</title>',
            f'  <desc id="desc">From the top: {escape(names)}. A module imports only from layers above its own.</desc>',
            f"  <style>{STYLE}",
            "  </style>",
            f'  <rect class="card" x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="12"/>',
            f'  <path d="M{arrow} {end} V{2 * GAP + 12}" stroke="#334155" stroke-width="2.5" fill="none"/>',
            f'  <path d="M{arrow - 9} {2 * GAP + 12} l9 -18 l9 18 Z" fill="#334155"/>',
            f'  <text transform="translate({arrow - 10} {end // 2}) rotate(-90)" text-anchor="middle">imports point'
            " up</text>",
            *(f"  {one}" for one in draw_rows(rows, MARGIN + GAP, 2 * GAP)),
            f'  <rect class="named" x="{MARGIN + GAP}" y="{end + 14}" width="16" height="16" rx="3"/>',
            f'  <text x="{MARGIN + GAP + 24}" y="{end + 27}">has a registry: its parts are found by name</text>',
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
