"""Numbers to look at: figures, tables, charts, the report."""
