"""The node daemon: takes calls from the static clients and carries them out in warm processes."""
