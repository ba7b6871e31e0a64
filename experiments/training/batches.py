"""Batches for a network, in a given order, with random crops; a thread prepares each one while another is used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import numpy as np

from experiments.training.data import Part


class RandomCrops:
    """One random square crop of each image, mirrored at random; fixed by (seed, epoch).

    ``images``: float32 of shape (n, channels, height, width). ``size``: height and width of a crop in pixels.
    """

    def __init__(self, images: np.ndarray, size: int, seed: int, epoch: int):
        # windows[i, :, top, left] is a crop, without a copy; shape (n, channels, tops, lefts, size, size)
        self._windows = np.lib.stride_tricks.sliding_window_view(   # type: ignore[call-overload]
            images, (size, size), axis=(2, 3))
        count, _, tops, lefts = self._windows.shape[:4]
        random = np.random.RandomState([seed, epoch, 1])   # 1: not the stream of the epoch's order
        self._top, self._left = random.randint(tops, size=count), random.randint(lefts, size=count)
        self._is_mirrored = random.randint(2, size=count).astype(bool)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        """The crops of the images at these indices, as a new array."""
        crops = self._windows[chosen, :, self._top[chosen], self._left[chosen]]
        mirrored = self._is_mirrored[chosen]
        crops[mirrored] = crops[mirrored, :, :, ::-1]   # a crop's mirror image is a crop of the mirror image
        return crops


def batches(part: Part, order: np.ndarray, size: int, crops: RandomCrops | None = None
            ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images (or their ``crops``) and labels, ``size`` at a time in this order; the last may be fewer."""
    for start in range(0, len(order), size):
        chosen = order[start:start + size]
        yield (part.images if crops is None else crops)[chosen], part.labels[chosen]


def prefetch(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the same items; a thread makes each one while its predecessor is in use."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, items, end)
        while True:
            item = following.result()
            if item is end:
                return
            following = thread.submit(next, items, end)
            yield item
