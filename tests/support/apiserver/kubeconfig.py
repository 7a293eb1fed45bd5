"""Kubeconfigs for a test's servers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

_numbers = itertools.count(1)


def kubeconfig(
    folder: Path,
    url: str,
    ca: Path | None,
    token: str,
    *,
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
) -> Path:
    """Write a kubeconfig of a new name; `cluster` and `context` add fields, `user` replaces the token."""
    trusted = {"certificate-authority": str(ca)} if ca else {}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"} | (context or {})}],
        "clusters": [{"name": "test", "cluster": {"server": url, **trusted} | (cluster or {})}],
        "users": [{"name": "test", "user": {"token": token} if user is None else user}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"kubeconfig-{next(_numbers)}"
    path.write_text(json.dumps(document))
    return path
