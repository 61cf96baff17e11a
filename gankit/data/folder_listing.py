"""Which files of a folder are pictures, and which class each of them belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gankit.data.local_files import expand_root
from gankit.errors import DataError, DataNotFoundError, reason_of

# what systems and programs keep in folders of pictures; names that begin with a dot are passed over too
_NO_PICTURES = {"__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "@eadir"}


@dataclass
class Listing:
    """The pictures of a folder.

    Args:
        files: The pictures.
        labels: The number of each picture's class, or None without classes.
        classes: The names of the classes in the order of their numbers, or None without classes.
        unreadable: The folders that could not be read.
        notices: What else was passed over, in sentences.
    """

    files: list[Path] = field(default_factory=list[Path])
    labels: list[int] | None = None
    classes: tuple[str, ...] | None = None
    unreadable: list[str] = field(default_factory=list[str])
    notices: list[str] = field(default_factory=list[str])


def list_pictures(
    root: str | Path,
    endings: Sequence[str],
    *,
    labels: bool | None = None,
    classes: Sequence[str] | None = None,
    skip_unreadable: bool = False,
) -> Listing:
    """Find the pictures in a folder and its subfolders, through links. Hidden files and folders are passed over.

    Args:
        root: The folder.
        endings: The endings of pictures.
        labels: Whether each folder in `root` is a class. None if there are folders with pictures in `root`, and no
            pictures beside them.
        classes: The folders that there must be, in the order of their numbers. None takes those that there are, sorted:
            names that are numbers by their values, others by the alphabet.
        skip_unreadable: Whether folders that cannot be read are left out, instead of raising an error.

    Raises:
        DataNotFoundError: If there is no such folder.
        DataError: If it contains no pictures, cannot be read, has no class folders although `labels` is true, or has
            others than `classes`.

    Example:
        >>> for name in ("10/a.png", "9/b.png", ".git/c.png"):
        ...     Path("pictures", name).parent.mkdir(parents=True)
        ...     _ = Path("pictures", name).write_bytes(b"")
        >>> listing = list_pictures("pictures", [".png"])
        >>> [file.name for file in listing.files], listing.labels, listing.classes
        (['b.png', 'a.png'], [0, 1], ('9', '10'))
    """
    folder = expand_root(root)
    if not folder.exists():
        raise DataNotFoundError(f"root must be a folder of pictures, got {str(root)!r}, which does not exist")
    if not folder.is_dir():
        raise DataNotFoundError(f"root must be a folder of pictures, got {str(root)!r}, which is a file")
    search = _Search({one.lower() for one in endings}, skip_unreadable)
    loose, tops = search.entries(folder)
    by_class = {top.name: search.files_below(top, {_identity(folder)}) for top in tops}
    search.empty = [top.name for top in tops if not by_class[top.name] and top not in search.repeated]
    by_class = {name: files for name, files in by_class.items() if files}
    if not loose and not by_class:
        raise DataError(
            f"root must be a folder of pictures ({' '.join(endings)}), got {str(root)!r}, which has none"
            + (f" among its files: {_counted(search.left_out)}" if search.left_out else "")
        )
    if labels or classes is not None:
        _check_classes(root, by_class, loose, classes)
    notices = search.notices(root)
    if labels is None and by_class and loose:
        notices.append(
            f"every picture must be in a class folder to have a label, got {_listed(map(str, loose))} beside the "
            f"folders {_listed(by_class)}; no picture has one"
        )
    if labels is False or loose:
        everything = [*loose, *(file for files in by_class.values() for file in files)]
        return Listing(sorted(everything), None, None, search.unreadable, notices)
    names = tuple(classes) if classes is not None else tuple(sorted(by_class, key=_by_number))
    files = [file for name in names for file in sorted(by_class[name])]
    numbers = [number for number, name in enumerate(names) for _ in by_class[name]]
    return Listing(files, numbers, names, search.unreadable, notices)


class _Search:
    """A walk through folders, and what it passed over."""

    def __init__(self, endings: set[str], skip_unreadable: bool) -> None:
        self.endings = endings
        self.skip_unreadable = skip_unreadable
        self.left_out = Counter[str]()
        self.empty: list[str] = []
        self.repeated: list[Path] = []
        self.unreadable: list[str] = []

    def files_below(self, top: Path, seen: set[tuple[int, int]]) -> list[Path]:
        """Return the pictures in a folder and its subfolders, without those that were seen and adding the others."""
        files: list[Path] = []
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            if (identity := _identity(folder)) in seen:
                self.repeated.append(folder)
                continue
            seen.add(identity)
            pictures, folders = self.entries(folder)
            files += pictures
            waiting += folders
        return files

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the pictures and the folders in a folder."""
        try:
            names = sorted(one.name for one in folder.iterdir())
        except OSError as error:
            if not self.skip_unreadable:
                raise DataError(f"every folder must be readable, got {str(folder)!r}: {reason_of(error)}") from error
            self.unreadable.append(f"{str(folder)!r} ({reason_of(error)})")
            return [], []
        pictures: list[Path] = []
        folders: list[Path] = []
        for path in (folder / name for name in names if not name.startswith(".") and name.lower() not in _NO_PICTURES):
            if _is_folder(path):
                folders.append(path)
            elif path.suffix.lower() in self.endings:
                pictures.append(path)
            else:
                self.left_out[path.suffix.lower() or "without an ending"] += 1
        return pictures, folders

    def notices(self, root: str | Path) -> list[str]:
        passed_over = {
            "folders without pictures are no classes": _listed(self.empty),
            "files that are no pictures by their endings are left out": _counted(self.left_out),
            "links to folders that are read already are not followed": _listed(map(str, self.repeated)),
        }
        return [f"{what}: {found} in {str(root)!r}" for what, found in passed_over.items() if found]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself; reading it says so
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _check_classes(
    root: str | Path, by_class: dict[str, list[Path]], loose: list[Path], classes: Sequence[str] | None
) -> None:
    if loose:
        raise DataError(
            f"for labels, every picture must be in a class folder, got {_listed(map(str, loose))} in {str(root)!r} "
            "itself"
        )
    if classes is None:
        return
    added, missing = sorted(by_class.keys() - set(classes)), [name for name in classes if name not in by_class]
    if added or missing or len(set(classes)) < len(classes):
        different = [f"{_listed(added)} added"] * bool(added) + [f"{_listed(missing)} missing or empty"] * bool(missing)
        raise DataError(
            f"the class folders in {str(root)!r} must be {_listed(classes)}, each once, got "
            f"{' and '.join(different) or 'a name twice'}"
        )


def _by_number(name: str) -> tuple[bool, int, str]:
    is_number = name.isascii() and name.isdecimal()
    return not is_number, int(name) if is_number else 0, name


def _counted(kinds: Counter[str]) -> str:
    if not kinds:
        return ""
    commonest = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))[:10]
    each = ", ".join(f"{number} {kind}" for kind, number in commonest)
    return f"{kinds.total()} ({each}{', ...' if len(kinds) > 10 else ''})"


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    return ", ".join(map(repr, all_names[:5])) + (f" and {len(all_names) - 5} more" if len(all_names) > 5 else "")
