"""multus' fixtures serve here too."""

from tests.netns.conftest import authority, cluster, multus, stubs

__all__ = ["authority", "cluster", "multus", "stubs"]
