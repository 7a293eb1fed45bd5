"""The custom resources that podrail meets: the definitions that it is deployed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).parents[3] / "packaging" / "kubernetes" / "crds.yaml"

DEFINITIONS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
