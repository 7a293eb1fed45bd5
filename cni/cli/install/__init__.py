"""podrail install and uninstall: executables and a network configuration, put where the runtime looks."""
