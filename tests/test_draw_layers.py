"""The picture of the package is drawn from its code."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from tools.draw_layers import PICTURE, WIDTH, makes_registry, picture
from tools.import_graph import modules_of
from tools.layout import LAYOUT

ROOT = PICTURE.parents[1]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_up_to_date():
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: python -m tools.draw_layers"


def test_modules_stand_in_the_order_of_the_layout_with_their_files():
    texts = [(one.get("class"), one.text) for one in ElementTree.fromstring(picture()).iter(f"{SVG}text")]
    rooms = [name for line in LAYOUT["gankit"] for name in line if not name.startswith("_")]
    assert [text for kind, text in texts if kind == "room"] == rooms
    files = " ".join(text for kind, text in texts if kind == "files").replace(",", "").split()
    assert {path.stem for path in (ROOT / "gankit" / "losses").glob("*.py")} - {"__init__"} <= set(files)
    modules = {text.removesuffix("/") for kind, text in texts if kind == "module"}
    inside = {path.stem for path in (ROOT / "gankit" / "training").iterdir() if not path.stem.startswith("_")}
    assert modules == inside


def test_boxes_lie_inside_the_picture_and_beside_each_other():
    boxes = [
        tuple(int(one.get(name)) for name in ("x", "y", "width", "height"))
        for one in ElementTree.fromstring(picture()).iter(f"{SVG}rect")
        if one.get("class") in ("plain", "named")
    ]
    assert all(x + width < WIDTH for x, _, width, _ in boxes)
    for number, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:number]:
            beside = x >= other_x + other_width or other_x >= x + width
            assert beside or y >= other_y + other_height or other_y >= y + height


def test_the_modules_with_a_registry_are_found():
    modules = modules_of(ROOT / "gankit")
    with_registry = {name.split(".")[1] for name, path in modules.items() if makes_registry(path)}
    parts = {"blocks", "losses", "augmentations", "latents", "optimizers", "regularizers", "architectures", "data"}
    assert with_registry == parts | {"presets"}
