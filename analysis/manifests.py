"""The manifest of a RESULT: what was run, on what, with what, and how much of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trila import __version__
from trila.analysis import results
from trila.analysis.accounting import Accounts, fractions
from trila.analysis.ledger import FileRow
from trila.analysis.planning import Plan
from trila.analysis.provenance import inputs_of
from trila.analysis.requests import Request
from trila.processors.fingerprints import code_digest
from trila.processors.recipes import digest

__all__ = ["manifest"]


def manifest(
    request: Request, planned: Plan, accounts: Accounts, scales: Mapping[str, float], command: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The manifest, JSON-like, without the digests of the products."""
    configuration = json.loads(request.config.model_dump_json())
    shares = fractions(accounts.files, request.max_events)
    leaves = [leaf for found in accounts.leaves.values() for leaf in found]
    return {
        "format_version": results.FORMAT_VERSION,
        "trila": __version__,
        "code": code_digest(),
        "command": list(command),
        "configuration": configuration,
        "configuration_digest": digest(configuration),
        "used": [one.model_dump(mode="json") for one in inputs_of(configuration)],
        "format": sorted({layout.table.name for layout in _layouts(accounts)}),
        "notes": sorted(
            {layout.table.note for layout in _layouts(accounts) if layout.table.note} | set(notes)
        ),
        "processors": list(request.processors),
        "reference": _reference(request, accounts),
        "columns": sorted({branch for leaf in leaves for branch in leaf.branches}),
        "columns_missing": planned.missing,
        "datasets": {
            name: {
                "is_data": bool(metadata["is_data"]),
                "cross_section": metadata["cross_section"],
                "scale": scales.get(name),
                "events": shares[name].done,
                "planned": shares[name].planned,
                "fraction": shares[name].fraction,
                "unknown_files": shares[name].unknown,
            }
            for name, metadata in planned.metadata.items()
        },
        "inputs": [_input(request, row) for row in accounts.files],
        "retracted": {
            "files": list(request.retracted_files),
            "blocks": {
                run: [list(pair) for pair in pairs] for run, pairs in request.retracted_blocks.items()
            },
        },
        "seeds": {},
        "packages": results.package_versions(),
        "complete": True,
    }


def _layouts(accounts: Accounts) -> list[Any]:
    found = {
        id(row.info.layout): row.info.layout
        for row in accounts.files
        if row.info is not None and row.status != "skipped"
    }
    return list(found.values())


def _reference(request: Request, accounts: Accounts) -> str | None:
    """What responses are relative to: "offline" or "gen"; None without responses."""
    if "response" not in request.processors:
        return None
    if request.config.response.reference != "auto":
        return request.config.response.reference
    columns = {column for layout in _layouts(accounts) for column in layout.columns}
    return "offline" if "offline_jets.pt" in columns else "gen"


def _input(request: Request, row: FileRow) -> dict[str, Any]:
    info = row.info
    return {
        "file": row.file,
        "dataset": row.dataset,
        "uuid": info.uuid if info else None,
        "size": info.size if info else None,
        "entries": info.entries if info else None,
        "processed": row.last - row.first if row.status == "done" else 0,
        "era": (request.fileset[row.dataset].era or info.layout.era) if info else None,
        "format": info.layout.table.name if info else None,
        "sources": info.layout.sources if info else None,
        "status": row.status,
        "reason": row.reason,
    }
