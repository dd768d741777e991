"""What `trila watch --then` does after each update: the steps from a result on, with their options.

The options are in the section `watch` of the configuration, by step; their names are those of the command line:

```yaml
watch:
  calibrate: {scale: {knots: 6}}        # as the file of `trila calibrate --config`
  fit: {spectrum: dijet.mass, function: dijet4, range: "489:2037", rebin: standard}
  limit: {spectrum: dijet.mass, function: dijet5, range: "489:2037", rebin: standard, signal: "gauss:0.07", masses: "600:1800:50"}
```

Products are in the folder `live` of the result, plots in `live/plots/STEP`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.fit_inputs import interval, masses
from trila.processors.documents import read_yaml
from trila.processors.errors import InputError, unknown_name
from trila.processors.formats import validation_message
from trila.processors.selection import Config

__all__ = ["STEPS", "Place", "WatchConfig", "check_steps", "follow", "split_config"]

_CALIBRATION = "calibration.json.gz"


def _range(text: str) -> str:
    interval("range", text)
    return text


def _masses(text: str) -> str:
    masses(text)
    return text


class FitOptions(Config):
    """Options of `trila fit`; `spectrum` is the name of a histogram of the result.

    Attributes:
        spectrum, function, range, sqrts, rebin, blind, veto: as on the command line.
    """

    spectrum: str
    function: str
    range: Annotated[str, AfterValidator(_range)]
    sqrts: float = Field(default=13000.0, gt=0)
    rebin: str | None = None
    blind: tuple[str, ...] = ()
    veto: tuple[str, ...] = ()


class _ScanOptions(FitOptions):
    """What scans have in common."""

    signal: str
    masses: Annotated[str, AfterValidator(_masses)]
    uncertainty: tuple[str, ...] = ()
    window: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)


class LimitOptions(_ScanOptions):
    """Options of `trila limit`.

    Attributes:
        signal, masses, uncertainty, window, seed, cl, lumi, toys, check, systematics: as on the command line.
    """

    cl: float = Field(default=0.95, gt=0, lt=1)
    lumi: float | None = Field(default=None, gt=0)
    toys: int = Field(default=0, ge=0)
    check: Literal["all", "sample", "none"] = "sample"
    systematics: bool = False


class SignificanceOptions(_ScanOptions):
    """Options of `trila significance`.

    Attributes:
        signal, masses, uncertainty, window, seed, toys: as on the command line.
    """

    toys: int = Field(default=100, ge=0)


class WatchConfig(Config):
    """The section `watch` of a configuration."""

    calibrate: CalibrationConfig = CalibrationConfig()
    fit: FitOptions | None = None
    limit: LimitOptions | None = None
    significance: SignificanceOptions | None = None


class Place(NamedTuple):
    """What steps work on, and where.

    Attributes:
        result: RESULT.
        live: folder of the products.
        is_data: whether the events are data.
        style: `style`, `label`, `com`, `lumi` of the plots.
    """

    result: Path
    live: Path
    is_data: bool
    style: Mapping[str, Any]


def split_config(path: str | Path | None) -> tuple[WatchConfig, dict[str, Any] | None]:
    """The section `watch` of a configuration file, and the rest, which is for the run; None without a file.

    Raises:
        InputError: missing, not YAML, an unknown key, or a value out of range.
    """
    if path is None:
        return WatchConfig(), None
    content = read_yaml(path, "configuration") or {}
    if not isinstance(content, dict):
        raise InputError(
            f"configuration {path} is a {type(content).__name__}; expected sections such as 'watch:'"
        )
    rest = {name: section for name, section in content.items() if name != "watch"}
    try:
        return WatchConfig.model_validate(content.get("watch") or {}), rest
    except ValidationError as error:
        raise InputError(
            f"configuration {path}, section watch: {validation_message(error)}; known: "
            f"{', '.join(WatchConfig.model_fields)}"
        ) from error


def check_steps(names: Sequence[str], config: WatchConfig, processors: Sequence[str]) -> None:
    """Complain of steps that can never be done, before they are due.

    Raises:
        UnknownName: no such step; offers the nearest.
        InputError: a step without its options, or without what it works on.
    """
    for place, name in enumerate(names):
        if name not in STEPS:
            raise unknown_name("step", name, STEPS)
        options: Any = getattr(config, name, None)
        if name in _SPECTRA and options is None:
            raise InputError(
                f"step {name} has no options; --config FILE needs a section 'watch: {{{name}: {{spectrum: ..., "
                "function: ..., range: ...}}'"
            )
        needed = options.spectrum.partition(".")[0] if name in _SPECTRA else _PROCESSOR.get(name)
        if needed is not None and needed not in processors and ":" not in ",".join(processors):
            raise InputError(
                f"step {name} needs the processor {needed}, and those that run are {', '.join(processors)}; add it with "
                "--processors, in a new RESULT"
            )
        if name == "closure" and "calibrate" not in names[:place]:
            raise InputError("step closure tests what calibrate made; put calibrate before it")


def follow(name: str, place: Place, config: WatchConfig) -> None:
    """Do one step.

    Raises:
        InputError, FitError, CorrectionError: it cannot be done with what there is so far.
    """
    STEPS[name](place, config)


def _silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


def _calibrate(place: Place, config: WatchConfig) -> None:
    from trila.analysis.calibration import calibrate

    calibrate(
        place.result, place.live / _CALIBRATION, config=config.calibrate, report=place.live / "plots" / "calibrate",
        progress=_silent, style=place.style, min_fraction=0.0,
    )  # fmt: skip


def _closure(place: Place, _config: WatchConfig) -> None:
    from trila.analysis.closure import closure

    folder = place.live / "plots" / "closure"
    closure(place.result, place.live / _CALIBRATION, folder, style=place.style, min_fraction=0.0)


def _turnon(place: Place, _config: WatchConfig) -> None:
    from trila.analysis.turnon import turnon

    turnon(place.result, place.live / "plots" / "turnon", min_fraction=0.0, **place.style)


def _stability(place: Place, _config: WatchConfig) -> None:
    from trila.analysis.stability import stability

    stability(place.result, place.live / "plots" / "stability", min_fraction=0.0, style=place.style)


def _fit(place: Place, config: WatchConfig) -> None:
    from trila.analysis.fitting import fit

    assert config.fit is not None
    product = place.live / "fit.json"
    fit(_prepared(place, config.fit), config.fit.function, product)
    _draw(place, "fit", product)


def _limit(place: Place, config: WatchConfig) -> None:
    from trila.analysis.limits import Choices, limit

    options = config.limit
    assert options is not None
    product = place.live / "limits.json"
    choices = Choices(
        sources=options.uncertainty, level=options.cl, window=options.window, check=options.check, luminosity=options.lumi,
        toys=options.toys, seed=options.seed,
    )  # fmt: skip
    given = _prepared(place, options, systematics=options.systematics)
    limit(given, options.function, options.signal, masses(options.masses), product, choices, progress=_silent)
    _draw(place, "limit", product)


def _significance(place: Place, config: WatchConfig) -> None:
    from trila.analysis.hunts import significance

    options = config.significance
    assert options is not None
    product = place.live / "significance.json"
    significance(
        _prepared(place, options), options.function, options.signal, masses(options.masses), product,
        sources=options.uncertainty, window=options.window, toys=options.toys, seed=options.seed,
    )  # fmt: skip
    _draw(place, "significance", product)


def _prepared(place: Place, options: FitOptions, *, systematics: bool = False) -> Any:
    from trila.analysis.fit_inputs import prepared

    return prepared(
        f"{place.result}:{options.spectrum}", range=options.range, sqrt_s=options.sqrts, rebin=options.rebin,
        blind=options.blind, veto=options.veto, systematics=systematics, min_fraction=0.0,
    )  # fmt: skip


def _draw(place: Place, name: str, product: Path) -> None:
    from trila.analysis.plots_products import draw

    draw(product, place.live / "plots" / name, is_data=place.is_data, **place.style)


#: Steps by name; each adds to the products or brings them up to date.
STEPS: dict[str, Callable[[Place, WatchConfig], None]] = {
    "calibrate": _calibrate, "closure": _closure, "turnon": _turnon, "stability": _stability, "fit": _fit,
    "limit": _limit, "significance": _significance,
}  # fmt: skip
_SPECTRA = ("fit", "limit", "significance")
#: Whose histograms or pairs a step works on.
_PROCESSOR = {
    "calibrate": "response",
    "closure": "response",
    "turnon": "efficiency",
    "stability": "stability",
}
