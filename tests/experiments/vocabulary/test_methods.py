"""What methods are called in tables and figures."""

import pytest

from experiments.vocabulary.methods import LABELS


@pytest.mark.parametrize(("method", "label"), [
    ("namsg", "NAMSG"), ("mine", "mine"),
    ("NAMSG", "'NAMSG'"),    # the label of another
    ("_mine", "'_mine'")])   # which older versions of matplotlib leave out of legends
def test_a_method_has_a_label_of_its_own_that_legends_show(method, label):
    assert LABELS[method] == label
