"""How much a tree's branches hold, from the file's description of them alone: no basket is read."""

from collections.abc import Iterable
from typing import Any

import uproot

__all__ = ["uncompressed_bytes"]


def uncompressed_bytes(tree: Any, branches: Iterable[str]) -> tuple[int, ...]:
    """Bytes of the branches when they are decompressed, all entries together, offsets included.

    Args:
        tree: a TTree or RNTuple.
        branches: names in it.
    """
    if not isinstance(tree, uproot.behaviors.RNTuple.HasFields):
        return tuple(int(tree[name].uncompressed_bytes) for name in branches)
    children: dict[int, list[int]] = {}
    for field, record in enumerate(tree.field_records):
        if record.parent_field_id != field:  # fields of the top level are their own parents
            children.setdefault(record.parent_field_id, []).append(field)
    columns: dict[int, list[Any]] = {}
    for column in tree.column_records:
        columns.setdefault(column.field_id, []).append(column)
    for (
        alias
    ) in tree.alias_column_records:  # the fields of NanoAOD's collections are names for columns of others
        columns.setdefault(alias.field_id, []).append(tree.column_records[alias.physical_id])

    def of_field(field: int) -> int:
        own = sum(_column_bytes(tree, column) for column in columns.get(field, []))
        return own + sum(of_field(child) for child in children.get(field, []))

    return tuple(of_field(tree[name].field_id) for name in branches)


def _column_bytes(tree: Any, column: Any) -> int:
    """Bytes of one of an RNTuple's columns in all clusters."""
    clusters = (links for links in tree.page_link_list if column.idx < len(links))
    elements = sum(page.num_elements for links in clusters for page in links[column.idx].pages)
    return int(elements * column.nbits + 7) // 8
