"""Lists as users write them: entries with commas between them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any

from stochdeconv.errors import InputError, StochDeconvError


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
    InputError
        It is none.
    """
    try:
        number = int(entry)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (not isinstance(entry, str) and number != entry):
        raise InputError(f"expected whole numbers with commas between them; got '{entry}'")
    return number
