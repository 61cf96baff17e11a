"""Which files of a folder are pictures, and which class each of them belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from gankit.data.folder_listing import list_pictures
from gankit.errors import DataError, DataNotFoundError

ROOT = Path("pictures")


def make(*names):
    for name in names:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def listed(**options):
    """The names of the pictures, their labels, the classes, and the notices."""
    found = list_pictures("pictures", (".png", ".jpg"), **options)
    return [file.relative_to(ROOT).as_posix() for file in found.files], found.labels, found.classes, found.notices


def test_folders_are_classes_and_their_subfolders_belong_to_them():
    make("dogs/a.png", "cats/b.PNG", "cats/a.jpg", "eels/deep/down/a.png")
    assert listed() == (
        ["cats/a.jpg", "cats/b.PNG", "dogs/a.png", "eels/deep/down/a.png"],
        [0, 0, 1, 2],
        ("cats", "dogs", "eels"),
        [],
    )


@pytest.mark.parametrize("labels", [None, True])
def test_folders_that_are_numbers_are_sorted_as_numbers(labels):
    names = [str(number) for number in range(12)]
    make(*(f"{name}/a.png" for name in names))
    files, numbers, classes, _ = listed(labels=labels)
    assert (files, numbers, classes) == ([f"{name}/a.png" for name in names], list(range(12)), tuple(names))


def test_numbers_come_before_words():
    make("10/a.png", "9/a.png", "other/a.png", "-1/a.png")
    assert listed()[2] == ("9", "10", "-1", "other")


def test_hidden_files_and_folders_are_neither_pictures_nor_classes():
    make("a/a.png", ".ipynb_checkpoints/a.png", ".git/a.png", "__MACOSX/a/a.png", "a/.hidden/a.png", "@eaDir/a.png")
    make("a/._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "a/thumbs.db")
    assert listed() == (["a/a.png"], [0], ("a",), [])


def test_what_is_left_out_is_counted_by_kind():
    make("a.png", "b.heic", "c.HEIC", "d.txt", "README")
    assert listed()[3] == [
        "files that are no pictures by their endings are left out: 4 (2 .heic, 1 .txt, 1 without an ending) in "
        "'pictures'"
    ]


def test_folders_without_pictures_are_reported_and_take_no_number():
    make("b/a.png")
    (ROOT / "a").mkdir()
    (ROOT / "c").mkdir()
    assert listed() == (
        ["b/a.png"],
        [0],
        ("b",),
        ["folders without pictures are no classes: 'a', 'c' in 'pictures'"],
    )


def test_a_picture_beside_class_folders_is_named():
    make("cats/a.png", "dogs/a.png", "loose.png")
    files, numbers, classes, said = listed()
    assert (files, numbers, classes) == (["cats/a.png", "dogs/a.png", "loose.png"], None, None)
    loose = str(ROOT / "loose.png")
    assert said == [
        f"every picture must be in a class folder to have a label, got {loose!r} beside the folders 'cats', 'dogs'; no "
        "picture has one"
    ]
    assert listed(labels=False)[3] == []
    with pytest.raises(DataError, match="^for labels, every picture must be in a class folder, got 'pictures.loose"):
        listed(labels=True)


def test_without_labels_folders_are_only_places():
    make("10/a.png", "9/a.png")
    assert listed(labels=False) == (["10/a.png", "9/a.png"], None, None, [])


# --- known classes ---------------------------------------------------------------------------------------


def test_known_classes_give_the_numbers():
    make("cats/a.png", "dogs/a.png")
    assert listed(classes=("dogs", "cats"))[:3] == (["dogs/a.png", "cats/a.png"], [0, 1], ("dogs", "cats"))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("cats",), r"'cats', each once, got 'dogs' added$"),
        (("cats", "dogs", "eels"), r"'cats', 'dogs', 'eels', each once, got 'eels' missing or empty$"),
        (("cats", "eels"), r".* got 'dogs' added and 'eels' missing or empty$"),
        (("cats", "dogs", "cats"), r".* got a name twice$"),
    ],
)
def test_other_folders_than_the_known_classes_are_refused(classes, said):
    make("cats/a.png", "dogs/a.png")
    with pytest.raises(DataError, match=f"^the class folders in 'pictures' must be {said}"):
        listed(classes=classes)


# --- links -----------------------------------------------------------------------------------------------


def test_links_to_folders_and_files_are_followed():
    Path("elsewhere").mkdir()
    Path("elsewhere/b.png").write_bytes(b"")
    make("a/a.png")
    (ROOT / "b").symlink_to(Path("elsewhere").resolve())
    (ROOT / "a" / "link.png").symlink_to(Path("elsewhere/b.png").resolve())
    assert listed()[:3] == (["a/a.png", "a/link.png", "b/b.png"], [0, 0, 1], ("a", "b"))


@pytest.mark.parametrize("target", [".", "..", "../a"])
def test_a_link_that_leads_back_is_reported_and_not_followed(target):
    make("a/a.png", "b/a.png")
    (ROOT / "a" / "again").symlink_to(target)
    files, numbers, _, said = listed()
    assert (files, numbers) == (["a/a.png", "b/a.png"], [0, 1])
    again = str(ROOT / "a" / "again")
    assert said == [f"links to folders that are read already are not followed: {again!r} in 'pictures'"]


def test_a_link_to_the_folder_itself_is_no_class():
    make("a/a.png")
    (ROOT / "self").symlink_to(".")
    files, numbers, classes, said = listed()
    assert (files, numbers, classes, len(said)) == (["a/a.png"], [0], ("a",), 1)


def test_two_links_to_one_folder_are_two_classes():
    make("a/a.png")
    (ROOT / "b").symlink_to("a")
    assert listed()[:3] == (["a/a.png", "b/a.png"], [0, 1], ("a", "b"))


@pytest.mark.parametrize("target", ["loop", "nowhere"])
def test_a_link_that_leads_nowhere_is_no_folder(target):
    make("a.png")
    (ROOT / "loop").symlink_to(target)
    assert listed()[3] == [
        "files that are no pictures by their endings are left out: 1 (1 without an ending) in 'pictures'"
    ]


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("nowhere", "^root must be a folder of pictures, got 'nowhere', which does not exist$"),
        ("file.png", "^root must be a folder of pictures, got 'file.png', which is a file$"),
        ("", "^root must be a folder, got '': the working folder is written '.'$"),
        ("~nobody_of_that_name/pictures", "^root must be a folder, got '~nobody"),
        ("x" * 5000, "^root must be a folder, got 'xxx"),
    ],
    ids=["absent", "file", "empty", "no home", "too long"],
)
def test_what_is_no_folder_is_refused(root, said):
    Path("file.png").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=said):
        list_pictures(root, (".png",))


def test_a_folder_without_pictures_says_what_it_has():
    make("a.heic", "b.heic")
    with pytest.raises(
        DataError, match=r"\(.png .jpg\), got 'pictures', which has none among its files: 2 \(2 .heic\)$"
    ):
        listed()


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_that_cannot_be_read_is_refused_or_left_out(monkeypatch, inside):
    make("a/a.png", "b/a.png")
    closed = ROOT / "b" if inside else ROOT
    read = Path.iterdir

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=f"^every folder must be readable, got {str(closed)!r}: Permission denied$"):
        listed()
    if inside:
        listing = list_pictures("pictures", (".png",), skip_unreadable=True)
        assert listing.classes == ("a",)
        assert listing.unreadable == [f"{str(closed)!r} (Permission denied)"]
