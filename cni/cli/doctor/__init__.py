"""podrail doctor: what on this node would keep a pod from its networks, found before it does."""
