"""Trigger-level analysis of LHC data: from the trigger's own files to histograms, calibrations and limits."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("trila")
