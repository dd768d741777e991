"""`python -m trila` is the command line."""

from trila.analysis.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
