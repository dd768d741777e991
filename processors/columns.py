"""The canonical event: what every reader delivers and every processor sees.

Collections are jagged records with four-vector behaviour; energies, momenta and masses are in GeV, angles in radians,
lengths in cm, whatever the file's units. A field is there where the file has it; processors ask for what they cannot
do without and use the rest where present.

Kinematic fields are at least float32: a file's float64 is kept. Masses of low-mass systems must be computed in
float64 (at 0.5 GeV and a pT of 100 GeV a float32 sum smears the mass by 1%).
"""

from typing import Any, NamedTuple, NoReturn

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel
from trila.processors.errors import BadFile, MissingColumn

__all__ = [
    "COLLECTIONS",
    "EVENT",
    "TRIGGERS",
    "Column",
    "Jagged",
    "flat",
    "has",
    "jagged",
    "scalar",
]


class Column(NamedTuple):
    """A declared column.

    Attributes:
        dtype: NumPy type; kinematics are stored as read where the file is more precise.
        unit: "GeV", "rad", "cm", or "" for pure numbers.
        meaning: one line.
    """

    dtype: str
    unit: str
    meaning: str


#: One value an event.
EVENT: dict[str, Column] = {
    "run": Column("uint32", "", "run number"),
    "luminosity_block": Column("uint32", "", "luminosity block (section) number"),
    "event": Column("uint64", "", "event number"),
    "weight": Column("float64", "", "generator weight; 1 in data"),
    "rho": Column("float32", "GeV", "median pile-up transverse-momentum density per unit area"),
    "mu": Column("float32", "", "mean number of interactions per crossing"),
    "n_pv": Column("int32", "", "reconstructed primary vertices"),
    "pv_x": Column("float32", "cm", "first primary vertex, x"),
    "pv_y": Column("float32", "cm", "first primary vertex, y"),
    "pt_hat": Column("float32", "GeV", "scale of the generated hard process"),
    "pt_hat_pileup": Column("float32", "GeV", "largest scale among the overlaid pile-up processes"),
}

_FOUR_VECTOR = {
    "pt": Column("float32", "GeV", "transverse momentum"),
    "eta": Column("float32", "", "pseudorapidity"),
    "phi": Column("float32", "rad", "azimuth"),
    "mass": Column("float32", "GeV", "mass; 0 where the format has none"),
}
_JET = {
    **_FOUR_VECTOR,
    "area": Column("float32", "", "jet area"),
    "raw_factor": Column("float32", "", "1 - uncorrected pT / stored pT"),
    "charged_hadron_fraction": Column("float32", "", "share of the jet's energy"),
    "neutral_hadron_fraction": Column("float32", "", "share of the jet's energy, forward hadrons included"),
    "charged_em_fraction": Column("float32", "", "share of the jet's energy"),
    "neutral_em_fraction": Column("float32", "", "share of the jet's energy, forward EM included"),
    "muon_fraction": Column("float32", "", "share of the jet's energy"),
    "charged_multiplicity": Column("int32", "", "charged constituents"),
    "neutral_multiplicity": Column("int32", "", "neutral constituents"),
    "n_constituents": Column("int32", "", "all constituents"),
    "jet_id": Column("int32", "", "the experiment's own identification bits (CMS: bit 1 is tight)"),
}
_MUON = {
    **_FOUR_VECTOR,
    "charge": Column("int32", "", "electric charge in units of e"),
    "track_isolation": Column("float32", "GeV", "scalar sum of track pT around the muon"),
    "vertex_bits": Column("uint64", "", "bit i is set where the muon belongs to dimuon vertex i"),
}
_VERTEX = {
    "x": Column("float32", "cm", "position"),
    "y": Column("float32", "cm", "position"),
    "z": Column("float32", "cm", "position"),
    "x_error": Column("float32", "cm", "uncertainty of x"),
    "y_error": Column("float32", "cm", "uncertainty of y"),
    "chi2": Column("float32", "", "fit chi-square"),
    "ndof": Column("float32", "", "fit degrees of freedom"),
}

#: Any number an event.
COLLECTIONS: dict[str, dict[str, Column]] = {
    "hlt_jets": _JET,
    "hlt_fatjets": _JET,
    "offline_jets": _JET,
    "gen_jets": _FOUR_VECTOR,
    "hlt_muons": _MUON,
    "offline_muons": _MUON,
    "dimuon_vertices": _VERTEX,
}

#: The record of trigger decisions: one boolean field a trigger name of the file.
TRIGGERS = "triggers"

_KINEMATICS = frozenset({"pt", "eta", "phi", "mass"})


class Jagged(NamedTuple):
    """One collection of a chunk as plain arrays: objects of event i are `offsets[i]` to `offsets[i + 1]`."""

    offsets: NDArray[np.int64]
    fields: dict[str, NDArray[Any]]

    def __getattr__(self, name: str) -> NDArray[Any]:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value of each event, shape (n_events,), for each of its objects, shape (n_objects,)."""
        out = np.empty(self.offsets[-1], values.dtype)
        _spread(self.offsets, values, out)
        return out


@kernel
def _spread(offsets: NDArray[np.int64], values: NDArray[Any], out: NDArray[Any]) -> None:
    for event in range(len(values)):
        value, begin, end = values[event], offsets[event], offsets[event + 1]
        # four in any case, as the processor cannot guess how many: those of the next events are written after
        if begin + 4 <= len(out):
            out[begin] = out[begin + 1] = out[begin + 2] = out[begin + 3] = value
            begin += 4
        for k in range(begin, end):
            out[k] = value


def has(events: Any, *names: str) -> bool:
    """Whether the events have all these columns, such as `has(events, "hlt_jets.area", "rho")`."""
    for name in names:
        collection, _, field = name.partition(".")
        if collection not in events.fields or (field and field not in events[collection].fields):
            return False
    return True


def scalar(events: Any, name: str) -> NDArray[Any]:
    """An event-level column in its declared type, shape (n_events,).

    Raises:
        BadFile: a weight is NaN or infinite: one would spoil every sum.
    """
    if name not in events.fields:
        raise MissingColumn(f"the input has no '{name}'; it has {', '.join(sorted(events.fields))}")
    values = ak.to_numpy(events[name])
    if name == "weight" and not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        _refuse(events, f"{name} is {values[first]}", first, "finite numbers are")
    declared = np.dtype(EVENT[name].dtype)
    if declared.kind == "f" and values.dtype.kind == "f" and values.dtype.itemsize > declared.itemsize:
        return np.asarray(values)
    return np.asarray(values, dtype=declared)


def flat(events: Any, collection: str, field: str) -> NDArray[Any]:
    """A collection's field for all events, one after the other, shape (n_objects,)."""
    return jagged(events, collection, field).fields[field]


def _refuse(events: Any, found: str, index: int, expected: str) -> NoReturn:
    """Complain of what is found in the event at `index`."""
    metadata = events.metadata or {}
    raise BadFile(
        str(metadata.get("filename", "input")),
        f"{found} in entry {int(metadata.get('entrystart', 0)) + index}; {expected} expected. "
        "The file is damaged or was made by a faulty job: make it again or leave it out",
    )


def jagged(events: Any, collection: str, *fields: str) -> Jagged:
    """A collection as plain arrays, with the fields that are asked for; those it lacks are left out.

    Raises:
        BadFile: NaN or infinity in a kinematic field, with the first event that has one; or counts that cannot be.
    """
    if collection not in events.fields:
        raise MissingColumn(f"the input has no '{collection}'; it has {', '.join(sorted(events.fields))}")
    layout = events[collection].layout  # the functions of awkward would cost as much as reading
    if layout.is_indexed:
        layout = layout.project()
    layout = layout.to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets.data)
    falling = offsets[1:] < offsets[:-1]
    if falling.any():  # compiled loops trust them
        index = int(np.argmax(falling))
        count = offsets[index + 1] - offsets[index]
        _refuse(events, f"the number of {collection} is {count}", index, "none or more are")
    objects = layout.content[: offsets[-1]]
    values = {field: np.asarray(ak.to_numpy(objects[field])) for field in fields if field in objects.fields}
    for field in [name for name in values if name in _KINEMATICS]:
        finite = np.isfinite(values[field])
        if not finite.all():
            first = int(np.argmin(finite))
            index = int(np.searchsorted(offsets[1:], first, side="right"))
            _refuse(events, f"{collection}.{field} is {values[field][first]}", index, "finite numbers are")
    return Jagged(offsets, values)
