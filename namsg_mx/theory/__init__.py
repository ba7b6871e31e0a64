"""The paper's two analyses as functions: `gain` (Section 3) and `regret` (Section 4, needs SciPy).

``pip install '.[theory]'`` in the checkout installs SciPy; ``import namsg_mx`` does not need it. docs/theory.md has the
function and the figure of each equation.
"""
