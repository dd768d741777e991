"""What goes wrong with input to a fit."""

__all__ = ["FitError"]


class FitError(ValueError):
    """A spectrum, model, signal or workspace that a fit cannot use; the message says what was expected and what to do."""
