"""Which networks a pod's annotation names, for those who only look (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator

NETWORKS = "k8s.v1.cni.cncf.io/networks"


def selected(text: str, namespace: str) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each network that a pod of `namespace` asks for.

    Raises:
        ValueError: the annotation is neither of its two forms.
    """
    text = text.strip()
    if text.startswith(("[", "{")):
        listed = json.loads(text)
        if not isinstance(listed, list):
            raise ValueError("it is an object, not a list")
        for index, item in enumerate(listed):
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                raise ValueError(f'item {index} has no "name"')
            yield str(item.get("namespace") or namespace), item["name"]
        return
    for item in filter(None, (part.strip() for part in text.split(","))):
        path, _, _ = item.partition("@")
        before, slash, name = path.rpartition("/")
        if not name or "/" in before:
            raise ValueError(f'"{item}" is no "namespace/name@interface"')
        yield (before if slash else namespace), name
