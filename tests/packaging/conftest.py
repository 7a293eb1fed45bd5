"""multus' fixtures serve here too."""

from tests.netns.conftest import cluster, multus, stubs

__all__ = ["cluster", "multus", "stubs"]
