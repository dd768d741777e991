"""From a file's branches to the canonical event, lazily: coffea's schema machinery driven by a format table.

`canonical_schema(format)` gives a `BaseSchema` class to use with `NanoEventsFactory` or coffea's `Runner`. Nothing is
read until a column is touched. Jets have the behaviour of Lorentz vectors, muons with a charge that of candidates.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from coffea.nanoevents.methods import base as base_methods
from coffea.nanoevents.methods import candidate
from coffea.nanoevents.schemas import BaseSchema
from coffea.nanoevents.util import quote

from trila.processors import transforms
from trila.processors.columns import COLLECTIONS, EVENT, TRIGGERS, Column
from trila.processors.formats import Alternatives, CollectionTable, Format, Operation

__all__ = ["BranchType", "Resolved", "canonical_schema", "resolve"]

Form = dict[str, Any]


class _Recipe(NamedTuple):
    """How a column is made: the branches it needs, and coffea's form key without the leading part."""

    branches: tuple[str, ...]
    key: str
    primitive: str


class BranchType(NamedTuple):
    """What a branch holds: NumPy's name of its numbers, and whether there is any number of them an event."""

    primitive: str
    jagged: bool


class Resolved(NamedTuple):
    """A format applied to the branches of one file.

    Attributes:
        branches: canonical column (`rho`, `hlt_jets.pt`, `triggers.HLT_x`) to the branches that it is made of.
        sources: collection to the prefix taken.
    """

    branches: dict[str, tuple[str, ...]]
    sources: dict[str, str]


def _load(branch: str) -> str:
    return f"{branch},!load"


def _apply(name: str) -> str:
    return f"!{transforms.PREFIX}{name}"


class _Resolver:
    """Resolves expressions against a file's branches; one of another shape than is needed counts as missing."""

    def __init__(self, table: Format, types: Mapping[str, BranchType]) -> None:
        self.table = table
        self.flat = {name: kind.primitive for name, kind in types.items() if not kind.jagged}
        self.jagged = {name: kind.primitive for name, kind in types.items() if kind.jagged}

    def _scaled(self, recipe: _Recipe, column: Column) -> _Recipe:
        if column.unit == "GeV" and self.table.energy_unit == "MeV":
            return recipe._replace(key=f"{recipe.key},0.001,{_apply('scale')}", primitive="float64")
        return recipe

    def event(self, alternatives: Alternatives, column: Column) -> _Recipe | None:
        for expression in alternatives:
            if isinstance(expression, str):
                if expression in self.flat:
                    recipe = _Recipe((expression,), _load(expression), self.flat[expression])
                    return self._scaled(recipe, column)
            elif expression.kind in ("first", "count"):
                branch = str(expression.first or expression.count)
                if branch in self.jagged:
                    primitive = "int32" if expression.kind == "count" else self.jagged[branch]
                    key = f"{_load(branch)},{_apply(expression.kind)}"
                    return self._scaled(_Recipe((branch,), key, primitive), column)
        return None

    def source(self, collection: CollectionTable) -> str | None:
        """The first prefix for which the collection's leading field (pt, or x of a vertex) can be made."""
        leading = next(iter(collection.fields.values()))
        for source in collection.source:
            if any(isinstance(e, str) and self.name(source, e) in self.jagged for e in leading):
                return source
        return None

    @staticmethod
    def name(source: str, expression: str) -> str:
        text = expression.replace("{source}", source)
        return text[1:] if text.startswith("=") else f"{source}_{text}"

    def counts(self, source: str, collection: CollectionTable) -> tuple[str, str]:
        """The branch that gives the objects' number and the form key of their offsets."""
        if collection.where is not None:
            branch = self.name(source, collection.where.branch)
            return branch, f"{_load(branch)},{collection.where.equals},{_apply('select_offsets')}"
        counter = f"n{source}"
        if counter in self.flat:
            return counter, f"{_load(counter)},!counts2offsets"
        leading = next(iter(collection.fields.values()))
        branch = next(b for e in leading if isinstance(e, str) and (b := self.name(source, e)) in self.jagged)
        return branch, f"{_load(branch)},{_apply('offsets')}"

    def field(self, source: str, collection: CollectionTable, field: str, column: Column) -> _Recipe | None:
        for expression in collection.fields[field]:
            recipe = (
                self._branch(source, collection, expression)
                if isinstance(expression, str)
                else self._operation(source, collection, expression)
            )
            if recipe is not None:
                return self._scaled(recipe, column)
        return None

    def _branch(self, source: str, collection: CollectionTable, expression: str) -> _Recipe | None:
        branch = self.name(source, expression)
        if branch not in self.jagged:
            return None
        counter = f"n{source}"
        if collection.where is None and counter in self.flat:
            return _Recipe(
                (branch,), f"{_load(branch)},{_load(counter)},{_apply('content')}", self.jagged[branch]
            )
        if collection.where is None:
            return _Recipe((branch,), f"{_load(branch)},{_apply('values')}", self.jagged[branch])
        codes = self.name(source, collection.where.branch)
        if codes not in self.jagged:
            return None
        key = f"{_load(branch)},{_load(codes)},{collection.where.equals},{_apply('select')}"
        return _Recipe((branch, codes), key, self.jagged[branch])

    def _operation(self, source: str, collection: CollectionTable, operation: Operation) -> _Recipe | None:
        if operation.constant is not None:
            branch, key = self.counts(source, collection)
            return _Recipe((branch,), f"{key},{operation.constant},{_apply('constant')}", "float32")
        given = operation.index_bits or operation.sum or operation.fraction or ()
        names = [self.name(source, suffix) for suffix in given]
        present = [name for name in names if name in self.jagged]
        if not present:
            return None
        if operation.index_bits is not None:
            if len(present) < len(names):
                return None
            return _Recipe(tuple(names), f"{','.join(map(_load, names))},{_apply('index_bits')}", "uint64")
        integers = all(np.dtype(self.jagged[name]).kind in "iub" for name in present)
        key = f"{','.join(map(_load, present))},{len(present)},{_apply('total')}"
        if operation.sum is not None:
            return _Recipe(tuple(present), key, "int32" if integers else "float32")
        four_vector = [self._branch(source, collection, str(e)) for n in ("pt", "eta", "mass")
                       for e in collection.fields[n]]  # fmt: skip
        parts = [recipe for recipe in four_vector if recipe is not None]
        branches = (*present, *(b for recipe in parts for b in recipe.branches))
        return _Recipe(branches, f"{key},{','.join(r.key for r in parts)},{_apply('fraction')}", "float32")

    def triggers(self) -> list[str]:
        return sorted(
            name for pattern in self.table.triggers for name in fnmatch.filter(self.flat, pattern)
            if self.flat[name] in ("bool", "int8", "uint8", "int32")
        )  # fmt: skip


def resolve(table: Format, types: Mapping[str, BranchType]) -> Resolved:
    """Which canonical columns a file with these branches gives, and from what.

    Args:
        types: of the branches.
    """
    resolver = _Resolver(table, types)
    branches: dict[str, tuple[str, ...]] = {}
    sources: dict[str, str] = {}
    for name, alternatives in table.events.items():
        recipe = resolver.event(alternatives, EVENT[name])
        if recipe is not None:
            branches[name] = recipe.branches
    for name, collection in table.collections.items():
        source = resolver.source(collection)
        if source is None:
            continue
        sources[name] = source
        counter, _ = resolver.counts(source, collection)
        for field in collection.fields:
            recipe = resolver.field(source, collection, field, COLLECTIONS[name][field])
            if recipe is not None:
                branches[f"{name}.{field}"] = tuple(dict.fromkeys((counter, *recipe.branches)))
    for trigger in resolver.triggers():
        branches[f"{TRIGGERS}.{trigger}"] = (trigger,)
    return Resolved(branches, sources)


def _numpy_form(primitive: str, key: str) -> Form:
    return {
        "class": "NumpyArray",
        "primitive": primitive,
        "inner_shape": [],
        "parameters": {},
        "form_key": quote(key),
    }


def _record(name: str, fields: Mapping[str, Form], record: str) -> Form:
    return {
        "class": "RecordArray",
        "fields": list(fields),
        "contents": list(fields.values()),
        "parameters": {"__record__": record, "collection_name": name},
        "form_key": quote(f"!invalid,{name}"),
    }


def _branch_type(form: Form) -> BranchType | None:
    """What a branch holds, from its form; None for what the canonical event cannot hold."""
    jagged = form["class"].startswith("ListOffset")
    form = form["content"] if jagged else form
    if form["class"] != "NumpyArray" or form.get("inner_shape"):
        return None
    return BranchType(str(form["primitive"]), jagged)


class CanonicalSchema(BaseSchema):
    """The canonical event of one format. Use `canonical_schema` to get it for a format."""

    table: Format

    def __init__(self, base_form: Form, *args: Any, **kwargs: Any) -> None:
        super().__init__(base_form)
        transforms.register()
        forms = dict(zip(self._form["fields"], self._form["contents"], strict=True))
        types = {name: t for name, form in forms.items() if (t := _branch_type(form)) is not None}
        resolver = _Resolver(self.table, types)
        contents: dict[str, Form] = {}
        for name, alternatives in self.table.events.items():
            recipe = resolver.event(alternatives, EVENT[name])
            if recipe is not None:
                contents[name] = _numpy_form(recipe.primitive, recipe.key)
        for name, collection in self.table.collections.items():
            source = resolver.source(collection)
            if source is not None:
                contents[name] = self._collection(resolver, name, source, collection)
        decisions = {t: _numpy_form(types[t].primitive, _load(t)) for t in resolver.triggers()}
        if decisions:
            contents[TRIGGERS] = _record(TRIGGERS, decisions, "NanoCollection")
        self._form["fields"] = list(contents)
        self._form["contents"] = list(contents.values())

    @staticmethod
    def _collection(resolver: _Resolver, name: str, source: str, collection: CollectionTable) -> Form:
        fields: dict[str, Form] = {}
        for field in collection.fields:
            recipe = resolver.field(source, collection, field, COLLECTIONS[name][field])
            if recipe is not None:
                fields[field] = _numpy_form(recipe.primitive, recipe.key)
        if {"pt", "eta", "phi", "mass"} <= fields.keys():
            record = "PtEtaPhiMCandidate" if "charge" in fields else "PtEtaPhiMLorentzVector"
        else:
            record = "NanoCollection"
        _, offsets = resolver.counts(source, collection)
        return {
            "class": "ListOffsetArray",
            "offsets": "i64",
            "content": _record(name, fields, record),
            "parameters": {},
            # coffea appends "!offsets" to a list's key; "!skip" drops that, as our key already ends in the offsets
            "form_key": quote(f"{offsets},!skip"),
        }

    @classmethod
    def behavior(cls) -> dict[Any, Any]:
        """Awkward behaviours: events, collections and four-vectors."""
        return {**base_methods.behavior, **candidate.behavior}


def canonical_schema(table: Format) -> type[CanonicalSchema]:
    """The schema class of a format."""
    return type("CanonicalSchema", (CanonicalSchema,), {"table": table})
