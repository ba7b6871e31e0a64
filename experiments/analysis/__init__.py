"""Numbers from records: curves, measures, confidence intervals, the outcomes of grid searches."""
