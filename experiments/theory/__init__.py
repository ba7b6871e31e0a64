"""Sections 3 and 4, played and drawn."""
