"""Columns in, histograms out: the canonical event, its readers and the coffea processors."""

__all__: list[str] = []
