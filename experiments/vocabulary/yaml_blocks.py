"""Reads YAML strictly, block by block. Errors are one line that names the file, the key and the value."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Callable, Iterable, Mapping, Sequence

import yaml

from experiments.vocabulary.errors import UsageError, quoted
from experiments.vocabulary.seeds import SEEDS, parse_seeds

FLOAT32 = (2.0**-126, 2.0**128)   # its normal numbers: MXNet refuses others, or takes them for 0
NONNEGATIVE = (0.0, math.inf)   # an interval: from the first number up to but without the second
UNPRINTABLE = ("Cc", "Cs")   # Unicode's control characters and surrogates: figures, pages and LaTeX fail on them


class ConfigLoader(yaml.SafeLoader):
    """YAML without its surprises: keys are texts and stand once, numbers are decimal, dates are texts, tags are errors.

    Numbers in YAML 1.1's other forms (010, 1:30, 0x1F, 1_000) are texts, and so an error where a number is wanted.
    """

    DEEPEST = 10   # levels of mappings and lists

    def __init__(self, stream: str):
        super().__init__(stream)
        self._within: list[Any] = []   # the place of the node being read: keys of mappings, indices of lists

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        self._within.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        if getattr(event, "tag", None) is not None:   # an alias has none
            self._refuse(f"tag {event.tag}: no tags here", event)
        if len(self._within) > self.DEEPEST:
            self._refuse("nested too deeply", event)
        node = super().compose_node(parent, index)
        self._within.pop()
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            kind = key.tag.rpartition(":")[2]
            if not isinstance(key, yaml.ScalarNode):
                self._refuse("a key is a list or mapping, not a text", key)
            if kind not in ("str", "merge"):
                self._refuse(f"key {quoted(key.value)} is a {kind} to YAML, not a text; quote it", key)
            if key.value in seen:
                self._refuse(f"key {key.value!r} stands twice", key)
            seen.add(key.value)
        return node

    def _refuse(self, problem: str, place: yaml.Event | yaml.Node) -> None:
        where = ": ".join(str(key) for key in self._within if key is not None)
        raise yaml.MarkedYAMLError(problem=f"{problem} (in {where})" if where else problem,
                                   problem_mark=place.start_mark)

    def construct_integer(self, node: yaml.ScalarNode) -> int | str:
        return int(node.value) if re.fullmatch("[-+]?(0|[1-9][0-9]{0,17})", node.value) else node.value

    def construct_float(self, node: yaml.ScalarNode) -> float | str:
        is_odd = re.search("[_:]|^[-+]?0[0-9]", node.value)
        return node.value if is_odd else self.construct_yaml_float(node)

    def construct_date(self, node: yaml.ScalarNode) -> str:
        return node.value


for _kind, _construct in (("int", ConfigLoader.construct_integer), ("float", ConfigLoader.construct_float),
                          ("timestamp", ConfigLoader.construct_date)):
    ConfigLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct)


class ConfigBlock:
    """One mapping of a configuration file. Each method reads a key and checks its value, or raises UsageError.

    ``where`` is the block's place for messages: the file, then keys. ``keys`` are the allowed keys; None allows any.
    """

    def __init__(self, where: str, content: Any, keys: Iterable[str] | None):
        if not isinstance(content, dict):
            raise UsageError(f"{where}: must be a mapping of keys to values, not {quoted(content)}")
        for key in content:
            if keys is not None and key not in keys:
                raise UsageError(f"{where}: unknown key {quoted(key)}; allowed: {', '.join(keys)}")
        self.where, self.content = where, content

    def value(self, key: str) -> Any:
        if key not in self.content:
            raise UsageError(f"{self.where}: {key} is missing")
        return self.content[key]

    def block(self, key: str, keys: Iterable[str] | None, default: dict | None = None) -> ConfigBlock:
        content = self.value(key) if default is None else self.content.get(key, default)
        return ConfigBlock(f"{self.where}: {key}", content, keys)

    def text(self, key: str) -> str:
        value = self._typed(key, str, "a text")
        if any(unicodedata.category(letter) in UNPRINTABLE for letter in value if letter not in "\n\t"):
            raise UsageError(f"{self.where}: {key}: {quoted(value)} has characters that cannot be printed")
        return value

    def choice(self, key: str, choices: Iterable[str]) -> str:
        value = self.value(key)
        if not isinstance(value, str) or value not in choices:
            raise UsageError(f"{self.where}: {key}: {quoted(value)} is not one of {', '.join(choices)}")
        return value

    def named(self, key: str, choices: Mapping[str, Sequence[str]]) -> dict:
        """A block with a ``name`` from ``choices``, and the integers that this name takes."""
        name = self.block(key, None).choice("name", choices)
        block = self.block(key, ("name", *choices[name]))
        return {"name": name, **{k: block.seed(k) if k == "seed" else block.integer(k, at_least=1)
                                 for k in choices[name]}}

    def optional(self, key: str, read: Callable[[str], Any]) -> Any:
        """``read(key)``, or None without the key."""
        return read(key) if key in self.content else None

    def integer(self, key: str, at_least: int) -> int:
        return self._integer(key, self.value(key), at_least)

    def integers(self, key: str, at_least: int) -> list[int]:
        return self._different(key, [self._integer(key, value, at_least) for value in self._list(key)])

    def flag(self, key: str) -> bool:
        """True unless the file says otherwise."""
        value = self.content.get(key, True)
        if not isinstance(value, bool):
            raise UsageError(f"{self.where}: {key}: {quoted(value)} is not true or false")
        return value

    def number(self, key: str, interval: tuple[float, float] = NONNEGATIVE) -> float:
        return self._float(key, self.value(key), interval)

    def numbers(self, key: str, interval: tuple[float, float]) -> list[float]:
        return self._different(key, [self._float(key, value, interval) for value in self._list(key)])

    def seed(self, key: str) -> int:
        value = self.integer(key, at_least=0)
        if value >= SEEDS:
            raise UsageError(f"{self.where}: {key}: {value} is not below 2^32")
        return value

    def seeds(self, key: str) -> list[int]:
        value = self.value(key)
        try:
            return parse_seeds(value if isinstance(value, str) else str(self._typed(key, int, "a seed (3) or a range")))
        except ValueError as error:
            raise UsageError(f"{self.where}: {key}: {error}") from error

    def _typed(self, key: str, kind: type, name: str) -> Any:
        return self._checked(key, self.value(key), kind, name)

    def _checked(self, key: str, value: Any, kind: type, name: str) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{self.where}: {key}: {quoted(value)} is not {name}")
        return value

    def _list(self, key: str) -> list:
        values = self._typed(key, list, "a list")
        if not values:
            raise UsageError(f"{self.where}: {key}: must have at least one value")
        return values

    def _different(self, key: str, values: list) -> list:
        for i, value in enumerate(values):
            if value in values[:i]:   # else its runs would count twice
                raise UsageError(f"{self.where}: {key}: {value:g} stands twice")
        return values

    def _integer(self, key: str, value: Any, at_least: int) -> int:
        if self._checked(key, value, int, "an integer") < at_least:
            raise UsageError(f"{self.where}: {key}: {value} is below {at_least}")
        return value

    def _float(self, key: str, value: Any, interval: tuple[float, float]) -> float:
        # YAML takes 1e-8 for a text, and 1.0e-8 for a number.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"{self.where}: {key}: {quoted(value)} is not a number (YAML's form is 1.0e-8)")
        low, high = interval
        if not low <= value < high:
            raise UsageError(f"{self.where}: {key}: {value!r} is not in [{low:g}, {high:g})")
        if value and not FLOAT32[0] <= abs(value) < FLOAT32[1]:
            raise UsageError(f"{self.where}: {key}: {value!r} is beyond what float32 holds")
        return float(value)
