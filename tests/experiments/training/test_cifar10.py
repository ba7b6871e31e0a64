"""Real CIFAR-10: as its files say, less the per-pixel mean. Files that are missing or damaged: test_data.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_experiment import REAL_DATA

from experiments.training import data


def records(name):
    """Images, uint8 of shape (10000, 3, 32, 32), and labels of a file: by its documented format alone."""
    content = np.fromfile(Path(os.environ["NAMSG_DATA"], "cifar10", name), np.uint8).reshape(10000, 3073)
    return content[:, 1:].reshape(-1, 3, 32, 32), content[:, 0]


@REAL_DATA
def test_real_cifar10():
    train, test = data.load({"name": "cifar10"}, None)
    files = [records(f"data_batch_{i}.bin") for i in range(1, 6)]
    pixels = np.concatenate([images for images, _ in files])
    mean = pixels.mean(axis=0)
    # As published with many CIFAR-10 models.
    assert mean.mean(axis=(1, 2)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    np.testing.assert_array_equal(train.labels, np.concatenate([labels for _, labels in files]))
    test_pixels, test_labels = records("test_batch.bin")
    np.testing.assert_array_equal(test.labels, test_labels)
    assert train.images.shape == (50000, 3, 32, 32)
    assert train.images.dtype == test.images.dtype == np.float32
    assert train.images.flags.c_contiguous
    for found, expected in ((train.images[::100], pixels[::100]), (test.images[::100], test_pixels[::100])):
        np.testing.assert_allclose(found, (expected - mean) / 255, atol=2e-7)   # float32's rounding below 1
    assert np.abs(train.images.mean(axis=0, dtype=np.float64)).max() < 1e-6
    assert abs(test.images.mean(dtype=np.float64)) > 1e-3   # the mean is that of the training images
