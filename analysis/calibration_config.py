"""Configuration of `trila calibrate`.

```yaml
hlt: {level: raw}
offline: {level: corrected, file: jet_jerc.json.gz, correction: Summer22_22Sep2023_V3_MC_L1L2L3Res_AK4PFPuppi}
scale: {estimator: median, knots: 6}
names: {tag: Scouting2024_V1, algorithm: AK4PFHLT}
runs: [380000, 383000]
```

Every section may be left out; a key that is not known is an error.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trila.analysis.pairs import Level
from trila.corrections.derivation import DerivationConfig
from trila.processors.documents import read_yaml
from trila.processors.errors import InputError
from trila.processors.formats import validation_message

__all__ = ["CalibrationConfig", "NamesConfig", "load_calibration_config"]


class NamesConfig(BaseModel):
    """Names for coffea's jet tools: `{tag}_{MC|DATA}_{level}_{algorithm}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str = "trila"
    algorithm: str = "AK4HLT"


class CalibrationConfig(BaseModel):
    """How a calibration is derived.

    Attributes:
        hlt, offline: levels that it connects.
        scale: binning, estimator, iterations, uncertainties.
        pileup: take the pile-up offset off first, where the pairs know ρ or μ.
        resolution: "particle" level as the reference, or dijet "asymmetry"; "auto" takes the first where there is one.
        storage_threshold: pT in GeV above which HLT jets are stored; the smallest found, if not given.
        runs: first run of each range that gets a calibration of its own, ascending; the last one ends with the
            last run seen, and the file refuses runs outside of all.
        spectrum_index: n of the mass spectrum m^-n, for the distortion that calibration errors cause.
        names: for coffea.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hlt: Level = Level(level="raw")
    offline: Level = Level(level="stored")
    scale: DerivationConfig = DerivationConfig()
    pileup: bool = True
    resolution: Literal["auto", "particle", "asymmetry"] = "auto"
    storage_threshold: float | None = Field(default=None, ge=0)
    runs: tuple[int, ...] = ()
    spectrum_index: float = Field(default=6.0, gt=1)
    names: NamesConfig = NamesConfig()

    def model_post_init(self, _context: Any) -> None:
        if list(self.runs) != sorted(set(self.runs)):
            raise ValueError(f"runs are {list(self.runs)}; expected the first run of each range, ascending")


def load_calibration_config(path: str | Path | None) -> CalibrationConfig:
    """Read a configuration file; the defaults, without one.

    Raises:
        InputError: missing, not YAML, an unknown key, or a value out of range.
    """
    content = {} if path is None else read_yaml(path, "configuration")
    try:
        return CalibrationConfig.model_validate(content or {})
    except ValidationError as error:
        raise InputError(
            f"configuration {path}: {validation_message(error)}; known sections: "
            f"{', '.join(CalibrationConfig.model_fields)}"
        ) from error
