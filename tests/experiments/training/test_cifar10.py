"""Real CIFAR-10: as its files say, less the per-pixel mean; files that are missing or damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_experiment import REAL_DATA

from experiments.training import data, download
from experiments.vocabulary.errors import UsageError


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


@REAL_DATA
@pytest.mark.parametrize("name", ["data_batch_5.bin", "test_batch.bin"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, name):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for other in download.CIFAR10:
        (folder / other).symlink_to(Path(os.environ["NAMSG_DATA"], "cifar10", other).resolve())
    (folder / name).unlink()
    content = bytearray(Path(os.environ["NAMSG_DATA"], "cifar10", name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name}: damaged .*; replace it by the official file"):
        data.load({"name": "cifar10"}, str(tmp_path))


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"cifar10.data_batch_1.bin: not found; put the official file there, or"):
        data.load({"name": "cifar10"}, str(tmp_path))
