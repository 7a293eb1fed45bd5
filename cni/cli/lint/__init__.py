"""podrail lint: mistakes in configurations, found before a pod hangs, with file, line and column."""
