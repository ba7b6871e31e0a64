"""Sections 3 and 4 beside the real optimizers: simulations, and the figures of them."""
