"""Names of the classes a network tells apart, and how a class is found among them without guessing."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stochdeconv.assets import shipped_file
from stochdeconv.errors import AmbiguousClassError, ClassNotFoundError, InputError, MissingInputError, closest

_N_NAMED_IN_ERRORS = 8
# So many classes are named one and all.
_FEW = 20


@dataclass(frozen=True)
class ClassName:
    """One class of a network.

    Attributes
    ----------
    index : int
        Position in the network's output.
    wnid : str or None
        WordNet identifier (``"n03028079"``); classes are matched between networks by it.
    label : str
        What people call it.
    """

    index: int
    wnid: str | None
    label: str

    def __str__(self) -> str:
        wnid = "" if self.wnid is None else f"{self.wnid}, "
        return f"'{self.label}' ({wnid}index {self.index})"


def load_class_names(source: str | Path | Sequence[Any]) -> tuple[ClassName, ...]:
    """Read a table of class names, so that classes can be called by name.

    Parameters
    ----------
    source : str, Path or sequence
        A JSON file holding a list, or the list itself. Entries in order of the output index: ``{"index", "wnid",
        "label"}`` as in the table of ImageNet that ships with the package (index and wnid may be missing), or bare
        labels.

    Returns
    -------
    tuple of ClassName
        Ordered by index, without gaps.

    Raises
    ------
    MissingInputError
        The file is not there.
    InputError
        The file is no JSON, or the table is not of this form.
    """
    where = "the class names"
    if isinstance(source, (str, Path)):
        path, where = Path(source), f"the class names in {source}"
        try:
            source = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MissingInputError(f"cannot read the class names {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path} is not a JSON file of class names: {error}") from error
    if not isinstance(source, Iterable) or isinstance(source, Mapping):
        raise InputError(f"{where} must be a list, not {type(source).__name__}")
    names = [_class_name(entry, position, where) for position, entry in enumerate(source)]
    names.sort(key=lambda name: name.index)
    if [name.index for name in names] != list(range(len(names))):
        raise InputError(f"{where} must have the indices 0 to {len(names) - 1}, each once")
    return tuple(names)


def _class_name(entry: Any, position: int, where: str) -> ClassName:
    if isinstance(entry, ClassName):
        return entry
    if isinstance(entry, str) and entry:
        return ClassName(position, None, entry)
    if isinstance(entry, Mapping):
        index, wnid, label = entry.get("index", position), entry.get("wnid"), entry.get("label")
        is_index = isinstance(index, int) and not isinstance(index, bool)
        if is_index and isinstance(label, str) and label and (wnid is None or isinstance(wnid, str)):
            return ClassName(index, wnid, label)
    raise InputError(
        f"{where}: entry {position} is {entry!r}; expected a label or "
        '{"index": 0, "wnid": "n01440764", "label": "tench"}'
    )


@functools.cache
def imagenet_class_names() -> tuple[ClassName, ...]:
    """Return the 1,000 classes of ImageNet in the order every ImageNet classifier of Keras uses; no network access."""
    return load_class_names(shipped_file("imagenet_classes.json"))


def find_class(word: str | int, class_names: Sequence[ClassName]) -> ClassName:
    """Find the class somebody means, or say why it cannot be told.

    Parameters
    ----------
    word : str or int
        An index (also as digits where no class is called so), a wnid, or a label; upper and lower case are the same, and so are
        blank, ``_`` and ``-``.
    class_names : sequence of ClassName
        Classes of the network, ordered by index.

    Returns
    -------
    ClassName

    Raises
    ------
    ClassNotFoundError
        Nothing has this name (a part of a name is not enough; nearest and containing names are listed), or several
        classes have it (ImageNet has two cranes; all are listed).
    """
    text = str(word).strip()
    label = comparable(text)
    is_number = re.fullmatch(r"[+-]?\d+", text) is not None
    is_name = isinstance(word, str) and any(comparable(name.label) == label for name in class_names)
    if is_number and not is_name:
        if 0 <= int(text) < len(class_names):
            return class_names[int(text)]
        raise ClassNotFoundError(f"there is no class {text}: the indices are 0 to {len(class_names) - 1}")
    for matches in (
        [name for name in class_names if name.wnid is not None and name.wnid.lower() == text.lower()],
        [name for name in class_names if comparable(name.label) == label],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            candidates = " or ".join(str(name) for name in matches)
            raise AmbiguousClassError(
                f"class '{text}' is ambiguous: it may be {candidates}; give the wnid or the index"
            )
    raise ClassNotFoundError(_unknown(text, class_names))


def find_folder_class(folder: str, class_names: Sequence[ClassName]) -> ClassName | None:
    """Find the class that a folder of photographs is named after; None where it is named otherwise, which is a folder's good right.

    Parameters
    ----------
    folder : str
        A name, without the folders above it. A number is an index only where the classes have no names: 007 is no mouse.
    class_names : sequence of ClassName

    Returns
    -------
    ClassName or None

    Raises
    ------
    AmbiguousClassError
        Several classes have this name.
    """
    are_named = any(name.label != default_label(name.index) for name in class_names)
    is_label = any(comparable(name.label) == comparable(folder) for name in class_names)
    if folder.strip().isdecimal() and are_named and not is_label:
        return None
    try:
        return find_class(folder, class_names)
    except AmbiguousClassError:
        raise
    except ClassNotFoundError:
        return None


def default_label(index: int) -> str:
    """Name a class of which only the index is known."""
    return f"class {index}"


def file_stem(class_name: ClassName, class_names: Sequence[ClassName]) -> str:
    """Name a class's file: its label, with the wnid where several classes share it (ImageNet has two cranes)."""
    is_unique = Counter(name.label for name in class_names)[class_name.label] == 1
    return safe_stem(class_name.label if is_unique else f"{class_name.label} {class_name.wnid or class_name.index}")


def safe_stem(text: str) -> str:
    """Make a file's name of a text: blanks and signs become ``_``."""
    return re.sub(r"[^\w.-]+", "_", text)


def _unknown(text: str, class_names: Sequence[ClassName]) -> str:
    message = f"there is no class '{text}'"
    part = comparable(text)
    containing = [name.label for name in class_names if part and part in comparable(name.label)]
    near = closest(text, [name.label for name in class_names])
    if near:
        message += f"; closest: {near}"
    if len(class_names) <= _FEW:
        message += "; there are " + ", ".join(f"'{name.label}'" for name in class_names)
    elif containing:
        labels = ", ".join(f"'{label}'" for label in containing[:_N_NAMED_IN_ERRORS])
        rest = len(containing) - _N_NAMED_IN_ERRORS
        message += f"; names with '{text}' in them: {labels}" + (f" and {rest} more" if rest > 0 else "")
    return message + "; a class is a name, a wnid or an index"


def comparable(label: str) -> str:
    """Write a label so that two ways of writing it are the same: upper and lower case, and blank, ``_`` and ``-``."""
    return re.sub(r"[\s_\-]+", " ", label).strip().lower()
