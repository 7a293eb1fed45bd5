"""An API server in the test process: real semantics, real HTTP and TLS, faults on demand.

The contract in tests/kube/test_contract.py runs against it and against the real one, so that what is
shown with it holds there too.
"""

from tests.support.apiserver import faults
from tests.support.apiserver.server import ADMIN, LIMITED, ApiServer

__all__ = ["ADMIN", "LIMITED", "ApiServer", "faults"]
