"""The images that the examples train on: MNIST from --data, else digits rendered from fonts, no download."""

import argparse

from experiments.training import data


def parser(description, epochs, writes=True):
    """The options that the examples share; ``writes``: whether the example writes files."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", metavar="DIR", help="train on MNIST, whose files are in DIR/mnist (default: on "
                                                       "rendered digits)")
    options.add_argument("--epochs", type=int, default=epochs, help="(default: %(default)s)")
    if writes:
        options.add_argument("--output", default="build/examples", metavar="DIR", help="(default: %(default)s)")
    return options


def load(folder):
    """Training and test images, each float32 of shape (n, 1, 28, 28) in [0, 1], with labels, int32 of shape (n,)."""
    rendered = {"name": "rendered_digits", "train": 2000, "test": 500, "seed": 0}
    return data.load({"name": "mnist"} if folder else rendered, folder)
