"""Records as numbers: curves, measures, intervals, grid searches."""
