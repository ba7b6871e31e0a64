"""What a network is fed: batches in a given order, augmented, prepared by a thread ahead of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import numpy as np

from experiments.training.data import Part


class RandomCrops:
    """Random square crops of the images or of their mirror images: one of each image, by (seed, epoch).

    ``images``: float32 of shape (n, channels, height, width); ``size``: height and width of a crop in pixels.
    """

    def __init__(self, images: np.ndarray, size: int, seed: int, epoch: int):
        # windows[i, :, top, left] is a crop, without a copy; shape (n, channels, tops, lefts, size, size)
        self._windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(2, 3))
        count, _, tops, lefts = self._windows.shape[:4]
        random = np.random.RandomState([seed, epoch, 1])   # 1: another stream than that of the epoch's order
        self._top, self._left = random.randint(tops, size=count), random.randint(lefts, size=count)
        self._is_mirrored = random.randint(2, size=count).astype(bool)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        """The crops of the images of these numbers, an array of its own."""
        crops = self._windows[chosen, :, self._top[chosen], self._left[chosen]]
        mirrored = self._is_mirrored[chosen]
        crops[mirrored] = crops[mirrored, :, :, ::-1]   # a crop's mirror image is a crop of the mirror image
        return crops


def batches(part: Part, order: np.ndarray, size: int, crops: RandomCrops | None = None
            ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images, or their ``crops``, and labels of ``size`` examples at a time in this order; the last ones may be fewer.
    """
    for start in range(0, len(order), size):
        chosen = order[start:start + size]
        yield (part.images if crops is None else crops)[chosen], part.labels[chosen]


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each made by a thread while the one before is in use."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, items, end)
        while True:
            item = following.result()
            if item is end:
                return
            following = thread.submit(next, items, end)
            yield item
