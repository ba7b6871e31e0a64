"""The paper's experiments: configurations, runs, records, figures and tables; see ``python -m experiments --help``."""
