"""Errors that are the input's fault, not the code's.

    InputError (ValueError)          the user can mend it: the message gives the value, the expectation and the remedy
    +-- BadFile                      one input file cannot be used as a whole; `--skip-bad-files` leaves it out
    +-- MissingColumn                what a processor cannot do without is not in the input
    +-- UnknownName                  a name that is not in a list; the nearest ones are offered

The command line prints their message, without a traceback, and exits with 2.
"""

import difflib
from collections.abc import Iterable

__all__ = ["BadFile", "InputError", "MissingColumn", "UnknownName", "nearest", "unknown_name"]


class InputError(ValueError):
    """The input is wrong; the message says what was found, what was expected and what to do."""


class BadFile(InputError):
    """One input file cannot be used.

    Attributes:
        file: path or URL as the user gave it.
        reason: what is wrong with it.
        transient: whether it may be readable at another time: the network, or the file system, failed.
    """

    def __init__(self, file: str, reason: str, transient: bool = False) -> None:
        super().__init__(file, reason, transient)
        self.file = file
        self.reason = reason
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class MissingColumn(InputError):
    """A processor needs a column that the input does not have."""


class UnknownName(InputError):
    """A name is not among those that exist; made by `unknown_name`."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UnknownName:
    """The error to raise for a name that does not exist; it offers the nearest ones.

    Args:
        kind: what the name stands for, such as "format" or "processor".
        name: as given.
        known: the names that exist.
        remedy: a sentence that follows the list, or nothing.
    """
    names = sorted(known)
    close = nearest(name, names)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {shown or 'none'}."
    return UnknownName(f"unknown {kind} '{name}'; {hint}{' ' + remedy if remedy else ''}")


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `name`, best first; empty where none is alike.

    >>> nearest("HLT_PFJet45", ["HLT_PFJet40", "HLT_PFJet450", "Flag_x"], 1)
    ['HLT_PFJet450']
    """
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)
