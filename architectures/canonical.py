"""The written form of an architecture, its canonical JSON, and the SHA-256 of that, which is its id."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec

__all__ = ["FORM", "canonical_json", "digest", "written"]

FORM = 1
"""Version of the canonical form; it enters the hash."""


def digest(spec: ArchitectureSpec) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(spec)).hexdigest()


def canonical_json(spec: ArchitectureSpec) -> bytes:
    """Return JSON that is equal for architectures that are the same graph with the same settings.

    Nodes are numbered by a walk from the output through `after`, in its order, so that neither the form (layers or
    nodes), nor the names of nodes, nor the order of keys, nor a default left out or written out makes a difference.
    """
    return orjson.dumps({"form": FORM, **_graph(spec)}, option=orjson.OPT_SORT_KEYS)


def written(spec: ArchitectureSpec) -> dict[str, object]:
    """Return the architecture as it can stand in a file, nodes in order of dependence, defaults left out."""
    head: dict[str, object] = {"name": spec.name}
    if spec.description:
        head["description"] = spec.description
    output = spec.output[0] if len(spec.output) == 1 else list(spec.output)
    return {**head, "nodes": {node.id: _written_node(node) for node in spec.ordered}, "output": output}


def _graph(spec: ArchitectureSpec) -> dict[str, object]:
    number = {node.id: index for index, node in enumerate(spec.ordered)}
    nodes = [{**_content(node), "after": [number[name] for name in node.after]} for node in spec.ordered]
    return {"nodes": nodes, "output": [number[name] for name in spec.output]}


def _content(node: AnyNode) -> dict[str, object]:
    when = {"when": node.when.data()} if node.when else {}
    if node.kind == "technique":
        return {"use": node.use, "settings": node.settings.settings(), **when}
    if node.kind == "loop":
        until = {"until": node.until.data()} if node.until else {}
        return {"use": "loop", "body": _graph(node.body), "max": node.max, **until, **when}
    return {"use": "architecture", "spec": _graph(node.spec), **when}


def _written_node(node: AnyNode) -> dict[str, object]:
    data: dict[str, object]
    if node.kind == "technique":
        data = {"use": node.use, **node.settings.model_dump(mode="json", exclude_defaults=True)}
    elif node.kind == "loop":
        data = {"use": "loop", "body": written(node.body), "max": node.max}
        if node.until:
            data["until"] = node.until.data()
    else:
        data = {"use": "architecture", "spec": written(node.spec)}
    if node.after:
        data["after"] = node.after[0] if len(node.after) == 1 else list(node.after)
    if node.when:
        data["when"] = node.when.data()
    return data
