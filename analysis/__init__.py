"""What a user calls: configuration, filesets, runs, results, plots and the command line."""

__all__: list[str] = []
