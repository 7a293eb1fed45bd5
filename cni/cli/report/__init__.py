"""One page of HTML about a node: devices, pods, addresses, problems."""
