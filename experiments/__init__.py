"""The reproduction of the paper: runs, records, figures, tables, claims. See ``python -m experiments --help``."""
