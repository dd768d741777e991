"""The identification is that of its table: against one jet at a time, on and beside each border."""

import numpy as np
import pytest

from trila.processors.columns import Jagged
from trila.processors.identification import ID_FIELDS, tight_jet_id


def _slow(eta: float, jet: dict[str, float]) -> bool:
    eta = abs(eta)
    charged, neutral = jet.get("charged_multiplicity"), jet.get("neutral_multiplicity")
    both = None if charged is None or neutral is None else charged + neutral
    constituents = jet.get("n_constituents", both)
    hadrons, photons = jet.get("neutral_hadron_fraction", 0.0), jet.get("neutral_em_fraction", 0.0)
    if eta > 3.0:
        return photons < np.float32(0.40) and (neutral is None or neutral >= 2)
    if eta > np.float32(2.7):
        return hadrons < np.float32(0.99)
    if eta > np.float32(2.6):
        return hadrons < np.float32(0.90) and photons < np.float32(0.99)
    central = hadrons < np.float32(0.99) and photons < np.float32(0.90)
    tracked = eta > np.float32(2.4) or (
        jet.get("charged_hadron_fraction", 1.0) > np.float32(0.01) and (charged is None or charged > 0)
    )
    return central and tracked and (constituents is None or constituents > 1)


@pytest.mark.parametrize(
    "missing", [(), ("n_constituents",), ("charged_multiplicity", "neutral_em_fraction"), ID_FIELDS]
)
def test_against_one_jet_at_a_time(missing: tuple[str, ...]) -> None:
    rng = np.random.default_rng(2)
    n = 4000
    borders = np.array([0.0, 2.4, 2.6, 2.7, 3.0, 4.5], np.float32)
    eta = rng.choice(np.concatenate([borders, np.nextafter(borders, np.float32(5)), -borders]), n)
    fractions = np.array([0.0, 0.01, 0.2, 0.4, 0.9, 0.95, 0.99, 1.0], np.float32)
    fields = {
        name: rng.choice(fractions, n) if name.endswith("fraction") else rng.integers(0, 4, n, np.int32)
        for name in ID_FIELDS
        if name not in missing
    }
    found = tight_jet_id(Jagged(np.array([0, n]), {"eta": eta, **fields}))
    expected = [_slow(eta[j], {name: values[j] for name, values in fields.items()}) for j in range(n)]
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < n or missing == ID_FIELDS


def test_neutral_constituents_may_be_weighted() -> None:
    """Pile-up weights make fractions of particles: 1.9 are fewer than the two that are asked for."""
    jets = Jagged(
        np.array([0, 2]),
        {"eta": np.full(2, 4.0, np.float32), "neutral_multiplicity": np.array([1.9, 2.0], np.float32)},
    )
    assert tight_jet_id(jets).tolist() == [False, True]
