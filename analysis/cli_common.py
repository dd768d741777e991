"""What all commands share: where they print, the option `--debug`, and how errors end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = [
    "Debug", "Energy", "Luminosity", "MinFraction", "Status", "Style", "StyleName", "err", "escaped", "out", "progress_bars", "reported",
]  # fmt: skip

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Turn errors into one message and an exit code."""
    from trila.corrections.jets import CorrectionError
    from trila.corrections.lumi import LumiMaskError
    from trila.fits.errors import FitError
    from trila.processors.errors import InputError

    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        err.print("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:  # noqa: BLE001  (the last resort: no traceback for users)
        if debug:
            err.print_exception()
        if isinstance(error, (InputError, CorrectionError, FitError, LumiMaskError)):
            err.print(f"[bold red]error:[/] {escaped(error)}")
            raise typer.Exit(2) from None
        hint = "" if debug else " (--debug shows where)"
        err.print(f"[bold red]internal error:[/] {type(error).__name__}: {escaped(error)}{hint}")
        raise typer.Exit(1) from None


def escaped(text: object) -> str:
    """Text for printing as it is, brackets and all; what would steer the terminal, as names in files may, becomes "?"."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(text)))


class StyleName(StrEnum):
    """Whose plot style."""

    cms = "cms"
    atlas = "atlas"
    lhcb = "lhcb"


# Of all commands that draw.
Style = Annotated[StyleName, typer.Option(help="Whose look.")]
Status = Annotated[str, typer.Option(help="Status after the experiment's name, such as Preliminary.")]
Energy = Annotated[float | None, typer.Option(help="Centre-of-mass energy, TeV.")]
Luminosity = Annotated[float | None, typer.Option(help="Integrated luminosity, 1/pb.")]
# Of all commands that read a RESULT.
MinFraction = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Share of the planned events that a RESULT must hold, in each dataset."
    ),
]


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Progress bars on a terminal, silence elsewhere."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=err, disable=not err.is_terminal,
    ) as progress:  # fmt: skip

        def start(stage: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(stage, total=total)
            return lambda advance: progress.advance(task, advance)

        yield start
