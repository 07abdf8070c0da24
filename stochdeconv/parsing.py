"""Lists and layers as users write them."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stochdeconv.errors import InputError, SettingsError, StochDeconvError


def read_list(words: Any, what: str, read: Callable[[Any], Any] | None = None) -> list[Any]:
    """Read a comma-separated text entry by entry; a sequence is a list already, anything else a list of one.

    Blanks around the entries of a text do not count, nor does a comma after the last one. An entry that has a comma itself stands in
    double quotes, a quote in it doubled, as in CSV: ``"conv,1",conv2``.

    Parameters
    ----------
    words : str, iterable or object
    what : str
        What one entry is, for error messages: ``"layer"``.
    read : callable, optional
        What is made of each entry; by default the entry itself.

    Returns
    -------
    list
        At least one entry, each once.

    Raises
    ------
    InputError
        Nothing is listed, an entry is empty, or two are read as the same.
    """
    if isinstance(words, str):
        text = words.strip().removesuffix(",")
        # A blank between a closing quote and a comma does not count either.
        text = re.sub(r'"\s+(?=,|$)', '"', text)
        try:
            entries = [entry.strip() for entry in next(csv.reader([text], skipinitialspace=True, strict=True), [])]
        except csv.Error as error:
            raise InputError(f"'{words}' is no list with commas between its entries: {error}") from None
    else:
        entries = list(words) if isinstance(words, Iterable) else [words]
    listed = f"'{words if isinstance(words, str) else ', '.join(map(str, entries))}'"
    if entries in ([], [""]):
        raise InputError(f"expected at least one {what}, several with commas between them; got {listed}")
    if "" in entries:
        raise InputError(f"{listed} lists nothing between two commas; expected a {what} there")
    values: list[Any] = []
    for entry in entries:
        try:
            value = entry if read is None else read(entry)
        except StochDeconvError as error:
            if read and isinstance(words, str) and len(entries) > 1 and _is_read(words.strip(), read):
                raise type(error)(
                    f"{error}; a {what} that has a comma in its name stands in double quotes: '\"{words.strip()}\"'"
                ) from None
            raise
        if value in values:
            raise InputError(f"{listed} lists the {what} '{entry}' twice; expected each once")
        values.append(value)
    return values


def _is_read(words: str, read: Callable[[Any], Any]) -> bool:
    try:
        read(words)
    except StochDeconvError:
        return False
    return True


def whole_number(entry: Any) -> int:
    """Read one entry of a list of whole numbers.

    Parameters
    ----------
    entry : str or number

    Returns
    -------
    int

    Raises
    ------
    SettingsError
        It is none.
    """
    try:
        number = int(entry)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (not isinstance(entry, str) and number != entry):
        raise SettingsError(f"expected whole numbers with commas between them; got '{entry}'")
    return number


@dataclass(frozen=True)
class LayerWord:
    """A place in a network as users write it: ``LAYER:NUMBER=WEIGHT`` read into its parts.

    Attributes
    ----------
    layer : str
        A name or a number; it may hold colons itself.
    numbers : tuple of int
        What follows it: a channel, a channel with its row and column, a component; none below 0.
    weight : float or None
        Finite; None where none is written.
    """

    layer: str
    numbers: tuple[int, ...] = ()
    weight: float | None = None

    def __str__(self) -> str:
        """Write it as `read_layer_word` reads it."""
        return ":".join([self.layer, *map(str, self.numbers)]) + ("" if self.weight is None else f"={self.weight}")


def read_layer_word(
    word: object, form: str, *, n_numbers: Sequence[int], what: str = "", weighted: bool = False
) -> LayerWord:
    """Read ``LAYER:NUMBER:NUMBER…=WEIGHT``, the numbers being the whole ones at its end; blanks around the parts do not count.

    Parameters
    ----------
    word : object
        Read as the text it is written as.
    form : str
        What was expected, for error messages: ``"of the form LAYER:CHANNEL"``.
    n_numbers : sequence of int
        How many numbers there may be. If it is one count alone, so many are read and those before belong to the layer's name. If
        there may be none, a name without any has no colon: ``conv:x`` is more likely a slip than a name.
    what : str
        What the word stands for, for error messages: ``"unit"``.
    weighted : bool
        ``=WEIGHT`` may follow.

    Returns
    -------
    LayerWord

    Raises
    ------
    InputError
        It is not of this form, or weighs infinitely much.
    """
    place, equals, weight = str(word).rpartition("=") if weighted and "=" in str(word) else (str(word), "", "")
    layer, *rest = (part.strip() for part in place.split(":"))
    digits = list(itertools.takewhile(lambda part: part.isascii() and part.isdigit(), reversed(rest)))
    if len(n_numbers) == 1:
        digits = digits[: n_numbers[0]]
    layer = ":".join([layer, *rest[: len(rest) - len(digits)]])
    try:
        read = LayerWord(layer, tuple(map(int, reversed(digits))), float(weight) if equals else None)
    except ValueError:  # of the weight; or a number longer than Python reads
        read = None
    if read is None or not layer or len(digits) not in n_numbers or (not digits and ":" in layer):
        raise InputError(f"{what} '{word}' is not {form}".lstrip())
    if read.weight is not None and not math.isfinite(read.weight):
        raise InputError(f"'{word}': a layer is weighted by a finite number")
    return read
