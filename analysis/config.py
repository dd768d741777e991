"""The configuration of a run: one frozen model, checked once, when it is read.

```yaml
events:
  triggers: [DST_PFScouting_JetHT]
reader:
  collections: {hlt_jets: ScoutingPFJetRecluster}
response:
  tag_trigger: HLT_PFJet140
dijet:
  corrections: calibration.json.gz
processors:                       # keyword arguments of processors of your own
  my_module:MyProcessor: {pt_min: 30}
```

Every section may be left out; a key that is not known is an error.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from trila.analysis.cluster_options import ClusterOptions
from trila.corrections.lumi import load_mask
from trila.processors.dijet import DijetConfig
from trila.processors.dimuon import DimuonConfig
from trila.processors.documents import read_yaml
from trila.processors.efficiency import EfficiencyConfig
from trila.processors.errors import InputError
from trila.processors.formats import validation_message
from trila.processors.response import ResponseConfig
from trila.processors.selection import Config, EventConfig
from trila.processors.stability import StabilityConfig

__all__ = ["ReaderConfig", "RunConfig", "load_config", "with_options"]


class ReaderConfig(Config):
    """How files are read.

    Attributes:
        collections: branch prefix to take for a collection, instead of the format's own choice.
    """

    collections: dict[str, str] = Field(default_factory=dict)


class RunConfig(Config):
    """The whole configuration; `trila run` writes it to the manifest."""

    reader: ReaderConfig = ReaderConfig()
    events: EventConfig = EventConfig()
    response: ResponseConfig = ResponseConfig()
    efficiency: EfficiencyConfig = EfficiencyConfig()
    dijet: DijetConfig = DijetConfig()
    dimuon: DimuonConfig = DimuonConfig()
    stability: StabilityConfig = StabilityConfig()
    processors: dict[str, dict[str, Any]] = Field(default_factory=dict)
    cluster: ClusterOptions = ClusterOptions()


def load_config(path: str | Path | None) -> RunConfig:
    """Read a configuration file; the defaults, without one.

    Raises:
        InputError: missing, not YAML, an unknown key, or a value out of range.
    """
    if path is None:
        return RunConfig()
    content = read_yaml(path, "configuration")
    if content is not None and not isinstance(content, dict):
        raise InputError(
            f"configuration {path} is a {type(content).__name__}; expected sections such as 'response:'"
        )
    content = {
        key: value for key, value in (content or {}).items() if key != "watch"
    }  # is for `trila watch` alone
    events = content.get("events")
    if isinstance(events, dict) and isinstance(events.get("lumi_mask"), str):
        content["events"] = {**events, "lumi_mask": load_mask(events["lumi_mask"])}
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"configuration {path}: {validation_message(error)}; known sections: {', '.join(RunConfig.model_fields)}"
        ) from error


def with_options(
    config: RunConfig,
    *,
    lumi_mask: str | None = None,
    corrections: str | None = None,
    cluster: str | None = None,
) -> RunConfig:
    """The configuration with what the command line says on top."""
    if lumi_mask is not None:
        events = config.events.model_copy(update={"lumi_mask": load_mask(lumi_mask)})
        config = config.model_copy(update={"events": events})
    if corrections is not None:
        dijet = config.dijet.model_copy(update={"corrections": str(Path(corrections).resolve())})
        config = config.model_copy(update={"dijet": dijet})
    if cluster is not None:
        given = {name: getattr(config.cluster, name) for name in config.cluster.model_fields_set}
        try:
            options = ClusterOptions.model_validate({**given, "kind": cluster})
        except ValidationError as error:
            raise InputError(f"--cluster {cluster}: {validation_message(error)}") from error
        config = config.model_copy(update={"cluster": options})
    return config
