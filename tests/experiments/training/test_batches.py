"""Random crops: which they are, that they derive from (seed, epoch); and batches made ahead of the network."""

import threading

import numpy as np
import pytest

from experiments.training.batches import RandomCrops, batches, prefetch
from experiments.training.data import Part

COUNT = 3000
ALL = np.arange(COUNT)


def numbered_images(count=COUNT):
    """Images whose pixels say where they are: image, channel, row, column."""
    return np.arange(count * 2 * 7 * 7, dtype=np.float32).reshape(count, 2, 7, 7)


def place(image, crop):
    """(top, left, mirrored) of a crop in its image; fails if it is no crop of it."""
    row, column = np.argwhere(image[0] == crop[0].min())[0]
    mirrored = crop[0, 0, 0] > crop[0, 0, 1]
    part = image[:, row:row + 4, column:column + 4]
    np.testing.assert_array_equal(crop, part[:, :, ::-1] if mirrored else part)
    return int(row), int(column), bool(mirrored)


def test_each_place_and_both_mirror_images_are_equally_likely():
    images = numbered_images()
    crops = RandomCrops(images, 4, seed=0, epoch=1)[ALL]
    assert crops.shape == (COUNT, 2, 4, 4)
    assert crops.dtype == np.float32
    places, counts = np.unique([place(*pair) for pair in zip(images, crops)], axis=0, return_counts=True)
    assert len(places) == 4 * 4 * 2
    expected = COUNT / len(places)
    assert np.abs(counts - expected).max() < 5 * expected**0.5   # five standard deviations
    np.testing.assert_array_equal(images, numbered_images())   # mirrored in the copy alone


def test_crops_derive_from_seed_and_epoch_and_not_from_the_order():
    images = numbered_images(100)
    order = np.random.RandomState(0).permutation(100)
    crops = RandomCrops(images, 4, seed=3, epoch=2)
    np.testing.assert_array_equal(crops[order], RandomCrops(images, 4, seed=3, epoch=2)[np.arange(100)][order])
    for seed, epoch in ((3, 1), (2, 2), (2, 3)):
        assert not np.array_equal(crops[order], RandomCrops(images, 4, seed, epoch)[order])
    found = [place(images[i], crop) for i, crop in zip((1, 2), RandomCrops(images[:5], 4, seed=2, epoch=3)[[1, 2]])]
    assert found == [(2, 1, True), (3, 2, False)]   # which recorded runs have


def test_crops_of_the_whole_image_are_the_image_or_its_mirror_image():
    images = numbered_images(50)
    for image, crop in zip(images, RandomCrops(images, 7, 0, 1)[np.arange(50)]):
        assert np.array_equal(crop, image) or np.array_equal(crop, image[:, :, ::-1])


def test_batches_keep_the_order_and_the_labels_with_their_images():
    images = numbered_images(10)
    part, order = Part(images, np.arange(10, dtype=np.int32)), np.array([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    found = list(batches(part, order, 4))
    assert [list(labels) for _, labels in found] == [[3, 1, 4, 0], [5, 9, 2, 6], [8, 7]]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), images[order])
    cropped = np.concatenate([x for x, _ in batches(part, order, 4, RandomCrops(images, 4, 0, 1))])
    np.testing.assert_array_equal(cropped, RandomCrops(images, 4, 0, 1)[order])


def test_the_next_item_is_made_by_a_thread_while_one_is_in_use():
    made = [threading.Event() for _ in range(5)]

    def items():
        for i, event in enumerate(made):
            event.set()
            yield i, threading.current_thread()

    for i, thread in prefetch(items()):
        assert thread is not threading.main_thread()
        if i + 1 < len(made):
            assert made[i + 1].wait(timeout=600)
        if i + 2 < len(made):
            assert not made[i + 2].is_set()   # one ahead, and no more
    assert i == 4


def test_what_goes_wrong_in_the_thread_is_raised_where_the_items_are_used():
    def items():
        yield 1
        raise MemoryError("too large")

    found = prefetch(items())
    assert next(found) == 1
    with pytest.raises(MemoryError, match="too large"):
        next(found)
    assert list(prefetch(iter([]))) == []
