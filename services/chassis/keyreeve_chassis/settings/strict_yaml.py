"""A strict YAML reader: no aliases, tags, merges, duplicate keys or second document."""

from collections.abc import Hashable
from typing import Any

import yaml

MAX_DEPTH = 16


class YamlRefused(ValueError):
    """The text is not one plain YAML document; the message gives the position."""


class _StrictLoader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused(event, "anchors and aliases are not read")
        if getattr(event, "tag", None):
            raise _refused(event, "tags are not read")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refused(event, f"nested deeper than {MAX_DEPTH}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(key, "keys are plain words")
            if key.value in seen:
                raise _refused(key, f"the key '{key.value}' stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refused(where: yaml.Event | yaml.Node, what: str) -> YamlRefused:
    return YamlRefused(f"line {getattr(where.start_mark, 'line', 0) + 1}: {what}")


def read_strict_yaml(text: str) -> object:
    """Parse a YAML (or JSON) document. Raises `YamlRefused`."""
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506  derived from SafeLoader: it makes plain values only
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark, "line", 0) + 1
        raise YamlRefused(f"line {line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, YamlRefused):
            raise
        raise YamlRefused(f"the text is not YAML: {error}") from None
