"""A device that moves into the sandbox and comes home as it was: what it is known by, and the ways."""
