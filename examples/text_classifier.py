"""A text classifier on words and pairs of words, hashed into a large embedding with sparse gradients.

    python examples/text_classifier.py [--data FILE]    # lines of a label, a tab and a text

Without --data it learns reviews that are made up here, where 'not' turns the sense round.
"""

import argparse
import random
import zlib

import namsg_mx  # noqa: F401  # isort: skip  (before mxnet; makes 'namsg' known to it)
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader

BUCKETS, UNITS, BATCH = 2**18, 16, 64
GOOD, BAD = ["good", "great", "witty", "moving", "clever", "warm"], ["bad", "dull", "weak", "tired", "clumsy", "cold"]


def made_up_review():
    """A label, 1 for praise, and a text."""
    is_good, is_negated = random.random() < 0.5, random.random() < 0.5
    word = random.choice(GOOD if is_good else BAD)
    start = random.choice(["the film", "this book", "her new play", "all of it"])
    end = random.choice(["in the end", "i must say", "to me", "from the first minute on"])
    return int(is_good != is_negated), f"{start} was {'not ' if is_negated else ''}{word} {end}"


def features(text, length):
    """The buckets of words and pairs of neighbours, int32 of shape (length,), 0 where there are no more."""
    words = text.lower().split()
    terms = [*words, *(" ".join(pair) for pair in zip(words, words[1:]))][:length]
    buckets = [1 + zlib.crc32(term.encode()) % (BUCKETS - 1) for term in terms]
    return np.array(buckets + [0] * (length - len(terms)), np.int32)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", metavar="FILE", help="lines of a label, 0, 1, ..., a tab and a text")
parser.add_argument("--epochs", type=int, default=4)
options = parser.parse_args()
random.seed(0)
mx.random.seed(0)
np.random.seed(0)   # by which MXNet shuffles

if options.data:
    with open(options.data, encoding="utf-8") as file:
        examples = [(int(label), text) for label, text in (line.rstrip("\n").split("\t", 1) for line in file)]
else:
    examples = [made_up_review() for _ in range(3000)]
random.shuffle(examples)
length = min(512, max(2 * len(text.split()) for _, text in examples))
labels = np.array([label for label, _ in examples], np.int32)
tokens = np.stack([features(text, length) for _, text in examples])
test = max(1, len(examples) // 10)
training = DataLoader(ArrayDataset(tokens[test:], labels[test:]), BATCH, shuffle=True)


class Classifier(gluon.Block):
    """The mean of a text's embeddings, and a linear layer."""

    def __init__(self, classes):
        super().__init__()
        with self.name_scope():
            self.embedding = nn.Embedding(BUCKETS, UNITS, sparse_grad=True)
            self.output = nn.Dense(classes, in_units=UNITS)

    def forward(self, tokens):
        is_term = (tokens > 0).expand_dims(-1).astype("float32")
        terms = nd.maximum(is_term.sum(axis=1), 1)   # an empty text has none
        return self.output((self.embedding(tokens) * is_term).sum(axis=1) / terms)


net = Classifier(int(labels.max()) + 1)
net.initialize(init.Normal(0.1))
# lazy_update: a step costs what its batch's rows cost, not what all 2**18 do.
trainer = gluon.Trainer(net.collect_params(), "namsg", {"learning_rate": 0.02, "lazy_update": True})
loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
for epoch in range(1, options.epochs + 1):
    mean_loss = mx.metric.Loss()
    for batch, answers in training:
        with autograd.record():
            loss = loss_of(net(batch), answers)
        loss.backward()
        trainer.step(len(batch))
        mean_loss.update(0, loss)
    print(f"epoch {epoch}: train loss {mean_loss.get()[1]:.4f}", flush=True)

accuracy = mx.metric.Accuracy()
accuracy.update(nd.array(labels[:test]), net(nd.array(tokens[:test])))
print(f"test accuracy: {accuracy.get()[1]:.4f}")
