#!/usr/bin/python3
"""Trains the digits model and writes its files beside this script.

    /usr/bin/python3 loader/models/digits/train.py

Needs Debian's python3-sklearn, which carries the data: 1,797 handwritten digits of 8 x 8 pixels with
values from 0 to 16 (UCI, "Optical Recognition of Handwritten Digits", CC BY 4.0). Nothing is downloaded.
One fifth is held out: training never sees it, and it is written down for the tests. The seed is fixed; other
versions of NumPy or BLAS may round differently and give other, equally good weights.
"""

import json
import pathlib
import struct
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20240229
HIDDEN = 64
EPOCHS = 200
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
MAX_SHIFT_CHANCE = 0.5  # of a training image to be moved by one pixel
PIXEL_MAX = 16.0
REQUIRED_ACCURACY = 0.97


def split():
    digits = load_digits()
    pixels = digits.data.astype(np.float32)
    labels = digits.target.astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=0.2, random_state=SEED, stratify=labels
    )
    seen = {row.tobytes() for row in train_x}
    if any(row.tobytes() in seen for row in test_x):
        raise SystemExit("a held-out image is in the training set too")
    return train_x, test_x, train_y, test_y


def shifted(rng, pixels):
    """Moves some of the images by one pixel, as other hands would have."""
    images = pixels.reshape(-1, 8, 8).copy()
    moves = rng.integers(-1, 2, size=(len(images), 2))
    for image, (down, right), chance in zip(images, moves, rng.random(len(images))):
        if chance < MAX_SHIFT_CHANCE:
            padded = np.pad(image, 1)
            image[:] = padded[1 - down : 9 - down, 1 - right : 9 - right].copy()
    return images.reshape(-1, 64)


def softmax(scores):
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def forward(layers, x):
    (w0, b0), (w1, b1) = layers
    hidden = np.maximum(x @ w0.T + b0, 0)
    return hidden, softmax(hidden @ w1.T + b1)


def train(rng, x, y):
    """Two layers, relu and softmax, cross-entropy, Adam. x is scaled to 0..1."""
    shapes = [(HIDDEN, x.shape[1]), (10, HIDDEN)]
    layers = [
        [rng.normal(0, np.sqrt(2 / s[1]), s), np.zeros(s[0])] for s in shapes
    ]
    first = [[np.zeros_like(p) for p in layer] for layer in layers]
    second = [[np.zeros_like(p) for p in layer] for layer in layers]
    targets = np.eye(10)[y]
    step = 0
    for epoch in range(EPOCHS):
        rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        moved = shifted(rng, x)
        for batch in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            bx = moved[batch]
            hidden, scores = forward(layers, bx)
            d1 = (scores - targets[batch]) / len(batch)
            d0 = (d1 @ layers[1][0]) * (hidden > 0)
            gradients = [[d0.T @ bx, d0.sum(axis=0)], [d1.T @ hidden, d1.sum(axis=0)]]
            step += 1
            for layer, grads, m, v in zip(layers, gradients, first, second):
                for i, grad in enumerate(grads):
                    m[i] = 0.9 * m[i] + 0.1 * grad
                    v[i] = 0.999 * v[i] + 0.001 * grad**2
                    update = (m[i] / (1 - 0.9**step)) / (np.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
                    layer[i] -= rate * (update + WEIGHT_DECAY * layer[i])
    return layers


def save_safetensors(path, tensors, metadata):
    header = {"__metadata__": metadata}
    data = b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array, dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    folder = pathlib.Path(__file__).resolve().parent
    train_x, test_x, train_y, test_y = split()
    rng = np.random.default_rng(SEED)
    layers = train(rng, train_x / PIXEL_MAX, train_y)
    layers[0][0] /= PIXEL_MAX  # so that the model takes pixels as the data set has them
    layers = [[p.astype(np.float32) for p in layer] for layer in layers]

    accuracy = float((forward(layers, test_x)[1].argmax(axis=1) == test_y).mean())
    print(f"{len(train_x)} images to train, {len(test_x)} held out: accuracy {accuracy:.4f}")
    if accuracy < REQUIRED_ACCURACY:
        sys.exit(f"below {REQUIRED_ACCURACY}: nothing written")
    save_safetensors(
        folder / "model.safetensors",
        {
            "layers.0.weight": layers[0][0],
            "layers.0.bias": layers[0][1],
            "layers.1.weight": layers[1][0],
            "layers.1.bias": layers[1][1],
        },
        {"made_by": "train.py", "held_out_accuracy": f"{accuracy:.4f}"},
    )
    np.save(folder / "heldout_pixels.npy", test_x)
    np.save(folder / "heldout_labels.npy", test_y)


if __name__ == "__main__":
    main()
