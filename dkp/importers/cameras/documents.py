"""Camera files as text, JSON, YAML or XML, read within limits: nothing in them is run, followed or expanded."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import yaml

from dkp.captures.arrays import parse_json
from dkp.config_files import Loader, not_yaml
from dkp.errors import InputError
from dkp.files import decoded

_LARGEST = 50_000_000  # bytes; 500 cameras of the Panoptic studio have 600,000


def read_bytes(path: Path, expected: str) -> bytes:
    """Read a file of at most 50 MB.

    Args:
        path: the file.
        expected: what it should be, for messages.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} has {path.stat().st_size} bytes, expected {expected} of at most {_LARGEST}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}), expected {expected}") from error


def read_text(path: Path, expected: str) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark."""
    try:
        return decoded(read_bytes(path, expected))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}), expected {expected}") from error


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON object."""
    data = parse_json(read_text(path, expected), str(path))
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}, expected {expected}: a JSON object")
    return data


def read_xml(path: Path, expected: str) -> ElementTree.Element:
    """Read XML that declares no document type and no entities."""
    content = read_text(path, expected)
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", content, re.IGNORECASE):
        raise InputError(f"{path} declares a document type or entities, expected plain XML without them")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is not valid XML ({error}), expected {expected}") from error


class _Loader(Loader):
    """Plain YAML, in which OpenCV's matrices are objects, every key stands once and nothing is repeated by name."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it repeats a part by its name")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if len(keys) != len({*keys}):
            raise yaml.YAMLError(f"it has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
        return super().construct_mapping(node, deep)


def _matrix(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def read_yaml(path: Path, expected: str) -> dict[str, Any]:
    """Read a YAML mapping, also as OpenCV writes it."""
    content = re.sub(r"\A%YAML[: ]\d\.\d[^\n]*", "", read_text(path, expected))
    try:
        data = _Loader(content).get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise InputError(f"{path}{not_yaml(error)}, expected {expected}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}, expected {expected}: keys and values")
    return data
