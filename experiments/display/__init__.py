"""Shows numbers: figures, tables, charts, the report."""
