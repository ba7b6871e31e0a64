"""What done.json and the checkpoint both hold: a number of epochs, and digests of the files up to that epoch.

The digests are SHA-256. Older records have none.
"""

from __future__ import annotations

import hashlib
from typing import Any, Mapping

CONFIG, EPOCHS = "config.json", "epochs.csv"   # the files


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def has_digests(content: Mapping[str, Any], others: set[str]) -> bool:
    """Whether ``content`` has the keys ``others`` and digests, or only these keys, as older records have."""
    if content.keys() == others:
        return True
    return content.keys() == {*others, "sha256"} and isinstance(content["sha256"], dict) and (
        {CONFIG, EPOCHS} <= content["sha256"].keys())


def is_number_of_epochs(value: Any) -> bool:
    """Whether it is an integer from 0 on."""
    return type(value) is int and value >= 0
