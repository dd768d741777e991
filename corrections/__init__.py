"""Arrays to arrays: luminosity masks, jet corrections, veto maps and binomial intervals."""

__all__: list[str] = []
