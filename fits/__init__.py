"""Histograms to results: functions of falling spectra."""

__all__: list[str] = []
