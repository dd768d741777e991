"""File formats as tables: which branches become which canonical columns.

A format is a YAML file (`cms-scouting.yaml`, `cms-nano.yaml`, `atlas-tla.yaml` beside this module, or the user's own)
in the form of `Format`. A column is given by one expression, or by a list of them of which the first that the file can
satisfy is taken:

    pt                            the branch `<source>_pt` (in `events:`, the branch of that very name)
    "=name"                       the branch of that very name, `{source}` filled in
    {fraction: [a, b]}            (a + b) / energy of the four-vector
    {sum: [a, b]}                 a + b; those that the file lacks count as nothing, but one must be there
    {first: a}, {count: a}        first entry, number of entries of a jagged branch (in `events:`)
    {constant: 0.0}               a number
    {index_bits: [n, o, list]}    one bit for each of the object's `n` indices, from place `o` on in the event's list

Quantities in GeV are converted from the format's `energy_unit`.
"""

import fnmatch
from collections.abc import Collection, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trila.processors.columns import COLLECTIONS, EVENT
from trila.processors.documents import read_yaml
from trila.processors.errors import InputError, unknown_name

__all__ = [
    "BUILT_IN",
    "Alternatives",
    "CollectionTable",
    "Expression",
    "Format",
    "Operation",
    "detect",
    "load",
    "validation_message",
]

#: Formats that come with the package, in the order in which they are tried on a file.
BUILT_IN = ("cms-scouting", "atlas-tla", "cms-nano")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Operation(_Table):
    """One arithmetic expression of branches; exactly one of the fields is given."""

    fraction: tuple[str, ...] | None = None
    sum: tuple[str, ...] | None = None
    first: str | None = None
    count: str | None = None
    constant: float | None = Field(default=None, allow_inf_nan=False)
    index_bits: tuple[str, str, str] | None = None

    @property
    def kind(self) -> str:
        """The name of the operation."""
        return next(iter(self.model_fields_set))

    def model_post_init(self, _context: Any) -> None:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"one operation is expected, not {sorted(self.model_fields_set) or 'none'}")
        if getattr(self, self.kind) in (None, ()):
            raise ValueError(f"the operation {self.kind} is of nothing; name branches, or give a number")


Expression = str | Operation
#: One expression, or several of which the first that a file can satisfy is taken.
Alternatives = Annotated[
    Annotated[tuple[Expression, ...], Field(min_length=1)],
    BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else (value,)),
]


class Where(_Table):
    """Keep the objects for which an integer branch has one value."""

    branch: str
    equals: int


class CollectionTable(_Table):
    """One collection.

    Attributes:
        source: prefixes of the branches; the first one that the file has is taken.
        fields: canonical field to expression.
        where: which of the objects belong to the collection; all, if not given.
    """

    source: tuple[str, ...] = Field(min_length=1)
    fields: dict[str, Alternatives]
    where: Where | None = None


class Era(_Table):
    """A name for files that have all these branches (globs)."""

    name: str
    has: tuple[str, ...]


class Format(_Table):
    """A file format.

    Attributes:
        name: as the user gives it.
        tree: name of the TTree or RNTuple.
        energy_unit: unit of energies, momenta and masses in the file.
        detect: globs; a file with a branch that matches one of them may be of this format.
        note: said once when the format is read.
        eras: the first one that fits names the file's era.
        triggers: globs of trigger-decision branches.
        products: event columns and collections of which at least one is not empty or positive in every event that
            the trigger wrote out; events without any are masked. Not given: no event is masked.
        events: event column to expression.
        collections: collection name to table.
    """

    name: str
    tree: str = "Events"
    energy_unit: Literal["GeV", "MeV"] = "GeV"
    detect: tuple[str, ...] = ()
    note: str = ""
    eras: tuple[Era, ...] = ()
    triggers: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    events: dict[str, Alternatives] = Field(default_factory=dict)
    collections: dict[str, CollectionTable]

    def model_post_init(self, _context: Any) -> None:
        names: list[tuple[str, Iterable[str], Collection[str]]] = [
            ("event column", self.events, EVENT),
            ("collection", self.collections, COLLECTIONS),
        ]
        names += [(f"field of {n}", t.fields, COLLECTIONS.get(n, {})) for n, t in self.collections.items()]
        for kind, given, known in names:
            for name in given:
                if name not in known:
                    raise unknown_name(kind, name, known)

    def era(self, branches: Collection[str]) -> str:
        """The era of a file with these branches; empty where none fits."""
        for era in self.eras:
            if all(_any_match(branches, pattern) for pattern in era.has):
                return era.name
        return ""

    def recognises(self, branches: Collection[str]) -> bool:
        """Whether a file with these branches may be of this format."""
        return any(_any_match(branches, pattern) for pattern in self.detect)

    def mentioned(self, branches: Collection[str]) -> set[str]:
        """Those of a file's branches that the table may refer to."""
        prefixes = tuple(
            part
            for table in self.collections.values()
            for source in table.source
            for part in (source, f"n{source}")
        )
        named = {
            text
            for alternatives in self.events.values()
            for expression in alternatives
            for text in (
                [expression] if isinstance(expression, str) else [expression.first, expression.count]
            )
        }
        named |= {
            text[1:]
            for table in self.collections.values()
            for alternatives in table.fields.values()
            for text in alternatives
            if isinstance(text, str) and text.startswith("=")
        }
        return {name for name in branches if name in named or name.startswith(prefixes)}

    def with_sources(self, sources: dict[str, str]) -> "Format":
        """The format with other branch prefixes for some collections.

        Raises:
            UnknownName: a collection that the format does not have.
        """
        tables = dict(self.collections)
        for collection, source in sources.items():
            if collection not in tables:
                raise unknown_name("collection", collection, tables, f"(format {self.name})")
            tables[collection] = tables[collection].model_copy(update={"source": (source,)})
        return self.model_copy(update={"collections": tables})


def _any_match(branches: Collection[str], pattern: str) -> bool:
    if not any(c in pattern for c in "*?["):
        return pattern in branches
    return bool(fnmatch.filter(branches, pattern))


def validation_message(error: ValidationError) -> str:
    """The first complaint of a model in one line: where, what."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "top level"
    return " ".join(f"{where[:120]}: {first['msg'][:300]} (given: {str(first['input'])[:80]})".split())


@cache
def _built_in(name: str) -> Format:
    text = (resources.files("trila.processors") / f"{name}.yaml").read_text()
    return Format.model_validate(yaml.safe_load(text))


def load(name: str) -> Format:
    """A format by name, or from the user's YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or does not have the form of `Format`.
        UnknownName: no such format.
    """
    if name in BUILT_IN:
        return _built_in(name)
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        raise unknown_name("format", name, BUILT_IN, "A format of your own is given as a .yaml file.")
    try:
        return Format.model_validate(read_yaml(path, "format file"))
    except ValidationError as error:
        raise InputError(f"format file {name} is not a format: {validation_message(error)}") from error


def detect(branches: Collection[str], formats: Iterable[str] = BUILT_IN) -> Format | None:
    """The first format that recognises a file with these branches."""
    return next((load(name) for name in formats if load(name).recognises(branches)), None)
