"""Who is asked what there is to see in a picture: networks, functions, a face detector; and how their answers become rows and captions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stochdeconv.errors import AmbiguousClassError, ClassNotFoundError, InputError
from stochdeconv.images import FACES
from stochdeconv.images.faces import find_faces, require_detector

if TYPE_CHECKING:
    from stochdeconv.networks.classes import ClassName
    from stochdeconv.networks.image_model import ImageModel

#: What a recogniser sees in a picture: names and scores, the surest first; nothing where it recognises nothing.
Seen = Sequence[tuple[str, float]]
Recogniser = Callable[[np.ndarray], Seen]

_N_NAMED = 5
# What a recogniser is asked for in the table of rates where no class is known.
_ANY = "what it saw first before"


class Witness(Protocol):
    """Somebody who looks at pictures before and after a dream."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def see(self, picture: np.ndarray) -> Any:
        """Look at a picture (height, width, channel) in [0, 1]; what comes is what the other methods take."""

    def cell(self, before: Any, after: Any) -> dict[str, Any]:
        """Fill a row of ``cells``: what was seen in one picture before and after."""

    def rates(self, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Fill a row of ``rates``: what was seen in many pictures before and after."""

    def say(self, seen: Any) -> str:
        """Write what was seen below a picture."""

    def boxes(self, seen: Any) -> np.ndarray:
        """Say where it is: (box, 4), left and upper edge, width and height in pixels."""


@dataclass(frozen=True)
class Namer:
    """A network or function that names what it sees; `expected` is what it is asked for (None: what it saw first before)."""

    name: str
    see: Recogniser
    expected: str | None

    def cell(self, before: Seen, after: Seen) -> dict[str, Any]:
        """Give the surest five names and their scores, before and after."""
        row: dict[str, Any] = {}
        for when, named in (("before", before), ("after", after)):
            for rank in range(_N_NAMED):
                name, score = named[rank] if rank < len(named) else ("", "")
                row |= {f"{when}_{rank + 1}": name, f"{when}_{rank + 1}_score": score}
        return row

    def rates(self, pairs: Sequence[tuple[Seen, Seen]]) -> dict[str, Any]:
        """Give the part of the pictures in which what it is asked for comes first, and among the first five."""
        of = {
            f"top{k}": float(np.mean([self._expected_of(was) in [name for name, _ in now[:k]] for was, now in pairs]))
            for k in (1, _N_NAMED)
        }
        return {"asked": self.expected or _ANY, **of}

    def _expected_of(self, seen_before: Seen) -> str | None:
        return self.expected or (seen_before[0][0] if seen_before else None)

    def say(self, seen: Seen) -> str:
        """Write the first name and its score."""
        return f"{self.name}: {seen[0][0]} {seen[0][1]:.0%}" if seen else f"{self.name}: nothing"

    def boxes(self, seen: Seen) -> np.ndarray:
        """Name no places."""
        return np.zeros((0, 4), int)


class FaceFinder:
    """A face detector: what is seen are the boxes of faces, see `faces.find_faces`."""

    name = FACES

    def see(self, picture: np.ndarray) -> np.ndarray:
        """Find the faces."""
        return find_faces(picture)

    def cell(self, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
        """Count them before and after."""
        return {"faces_before": len(before), "faces_after": len(after)}

    def rates(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """Give the part of the pictures with a face, and the mean number of faces."""
        counts = np.array([len(now) for _, now in pairs])
        return {"asked": "a face", "with_face": float(np.mean(counts > 0)), "mean_faces": float(counts.mean())}

    def say(self, seen: np.ndarray) -> str:
        """Write their number."""
        return f"{self.name}: {len(seen) or 'none'}"

    def boxes(self, seen: np.ndarray) -> np.ndarray:
        """Give their places."""
        return seen


def check_judge(judge: object) -> None:
    """Raise InputError for a word that is no judge, and where faces cannot be looked for."""
    if judge == FACES:
        require_detector()
    elif isinstance(judge, str):
        raise InputError(
            f"judge '{judge}' is a word, but the only one is '{FACES}'; give a network (load_model) or a function"
        )


def gather_witnesses(
    model: ImageModel, judge: ImageModel | Recogniser | str | None, *, class_word: str | None
) -> list[Witness]:
    """Name those who look: the network itself, and the judge where there is one.

    Parameters
    ----------
    model : ImageModel
    judge : ImageModel, callable, "faces" or None
    class_word : str or None
        The name of a folder: the class they are asked for, if the network knows one of that name.

    Returns
    -------
    list of Witness
    """
    from stochdeconv.networks.image_model import ImageModel

    expected = None if class_word is None else _class_of_folder(model, class_word)
    witnesses: list[Witness] = [_network_namer("network", model, expected)]
    if isinstance(judge, str):
        witnesses.append(FaceFinder())
    elif isinstance(judge, ImageModel):
        witnesses.append(_network_namer("judge", judge, expected))
    elif judge is not None:
        witnesses.append(Namer("judge", judge, expected.label if expected else None))
    return witnesses


def _network_namer(name: str, network: ImageModel, expected: ClassName | None) -> Namer:
    # Classes are the same where their wnids are, whatever a network calls them.
    own = _class_of(network, expected.wnid or expected.label) if expected else None
    return Namer(name, functools.partial(_look, network), own.label if own else None)


def _look(network: ImageModel, picture: np.ndarray) -> Seen:
    from stochdeconv.methods.recognition import recognise, top_classes

    return top_classes(network, recognise(network, [picture])[0], k=_N_NAMED)


def _class_of_folder(model: ImageModel, folder: str) -> ClassName | None:
    from stochdeconv.networks.classes import find_folder_class

    try:
        return find_folder_class(folder, model.class_names)
    except AmbiguousClassError:
        return None


def _class_of(model: ImageModel, word: str) -> ClassName | None:
    try:
        return model.find_class(word)
    except ClassNotFoundError:
        return None
