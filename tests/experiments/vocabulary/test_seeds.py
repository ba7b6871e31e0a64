"""Lists of seeds: from text and back; what is none is refused."""

import pytest

from experiments.vocabulary.seeds import parse_seeds, seed_range


@pytest.mark.parametrize(("text", "seeds"), [
    ("3", [3]), ("0-9", list(range(10))), ("7-7", [7]), ("4294967295", [4294967295]), ("0,2,5-7", [0, 2, 5, 6, 7]),
    ("5-7, 0, 2", [0, 2, 5, 6, 7]), ("0-2,1-3,3", [0, 1, 2, 3])])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["3", "0-9", "0-1", "0,2,5-7", "0-1,3", "100-101,103-104"])
def test_seeds_as_text_and_back(text):
    assert seed_range(parse_seeds(text)) == text


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "a", "2-1", "1-2-3", "1,", ",1", "1,,2", "1,a", "0,3-2", "1 2",
                                  "0x1", "01", "0-01", "\u0663", "9" * 5000])
def test_texts_that_are_no_seeds(text):
    with pytest.raises(ValueError, match="is not a seed"):
        parse_seeds(text)


@pytest.mark.parametrize(("text", "count"), [("0-5000,0-5000", 5001), ("0-9999,0-9999,7", 10000)])
def test_a_seed_that_is_given_twice_counts_once(text, count):
    assert parse_seeds(text) == [*range(count)]


@pytest.mark.parametrize("text", ["4294967296", "4294967295-4294967296", "0-10000", "0-5000,6000-11000"])
def test_seeds_that_numpy_does_not_take_or_that_are_too_many(text):
    with pytest.raises(ValueError, match="of 2.32 or more|more than 10000"):
        parse_seeds(text)
