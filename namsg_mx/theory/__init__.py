"""The paper's two analyses as functions: `gain` (Section 3, NumPy alone) and `regret` (Section 4, needs SciPy).

``pip install 'namsg-mx[theory]'`` brings SciPy; ``import namsg_mx`` does without it. docs/theory.md leads from equation
to function to figure.
"""
