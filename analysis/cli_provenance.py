"""The command `trila explain`: what made a file, down to the files that events were read from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.tree import Tree

from trila.analysis.cli_common import Debug, escaped, reported

if TYPE_CHECKING:
    from trila.analysis.described import Files
    from trila.analysis.explanation import Explanation

__all__ = ["explain"]

_COLORS = {"same": "green", "changed since": "bold red", "not found": "yellow", "not checked": "yellow"}
#: Characters of a text of others', and of a line: a tree would be cut off at the terminal's edge.
_LONGEST, _WIDEST = 300, 1000


def explain(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Product, plot, correction file, RESULT, or a file in one.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """What made a file: command, code, packages, options and inputs, and what made these, with their digests verified.

    Example: `trila explain limits.json`
    """
    with reported(debug):
        from trila.analysis.explanation import explain as explained

        found = explained(file)
        if as_json:
            typer.echo(json.dumps(found.model_dump(mode="json"), indent=1))
            return
        tree = Tree(_title(found))
        _grow(tree, found, set())
        Console(highlight=False, soft_wrap=True, width=_WIDEST).print(tree)


def _title(found: "Explanation") -> str:
    status = "" if found.status == "asked for" else f": [{_COLORS[found.status]}]{found.status}[/]"
    place = f" (found at {_shown(found.found)})" if found.found else ""
    return f"[bold]{_shown(found.path)}[/], {found.kind}{status}{place}"


def _grow(tree: Tree, found: "Explanation", above: set[str]) -> None:
    """Hang below a title what is known; what is known already is not said again."""
    made = found.record
    # of all of it: a digest that somebody made up must not hide anything
    content = found.model_dump_json(exclude={"path", "status", "found"})
    if made is not None and content in above:
        tree.add(f"as above, digest {_shown(made.digest[:16])}")
        return
    above.add(content)
    if made is not None:
        # the command of a run is a whole command line
        command = made.command if made.command.startswith("trila ") else f"trila {made.command}"
        tree.add(f"made by [bold]{_shown(command)}[/], version {_shown(made.trila)}")
        code = {True: "as installed", False: "[bold red]not the code installed here[/]", None: "not recorded"}
        tree.add(f"code {_shown(made.code[:16])} {code[found.same_code]}".replace("  ", " "))
        differ = [
            f"{_shown(name)} [bold red]{_shown(then)}[/] (here {_shown(now) if now else 'not installed'})"
            for name, (then, now) in found.packages.items()
        ]
        as_here = "as installed" if made.packages else "not recorded"
        tree.add(f"packages: {', '.join(differ) if differ else as_here}")
        asked = {key: value for key, value in made.options.items() if value not in (None, "", [], {}, False)}
        if asked:
            options = tree.add("options")
            for key, value in sorted(asked.items()):
                options.add(f"{_shown(key)} = {_shown(value)}")
        digest = f"digest {_shown(made.digest[:16])}"
        tree.add(
            digest
            if found.intact is not False
            else f"{digest} [bold red]is not that of the record: it was changed[/]"
        )
    if found.files is not None:
        _grow_files(tree, found.files)
    for item in found.made_from:
        _grow(tree.add(_title(item)), item, above)


def _grow_files(tree: Tree, files: "Files") -> None:
    read = files.number - files.number_skipped
    places = ", ".join(f"{count} {what}" for what, count in files.places.items())
    branch = tree.add(
        f"{read} input file{'' if read == 1 else 's'}, {files.events} events: {places or 'none'}"
    )
    for name in files.first:
        branch.add(_shown(name))
    if read > len(files.first):
        branch.add(f"and {read - len(files.first)} more")
    if files.number_skipped:
        skipped = tree.add(f"[bold yellow]{files.number_skipped} skipped[/]")
        for name, reason in files.skipped.items():
            skipped.add(f"{_shown(name)}: {_shown(reason)}")
        if files.number_skipped > len(files.skipped):
            skipped.add(f"and {files.number_skipped - len(files.skipped)} more")


def _shown(value: Any) -> str:
    """A text of others' in one line, without characters that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return escaped(line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…")
