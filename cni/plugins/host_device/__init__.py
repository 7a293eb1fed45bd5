"""The host-device plugin; `plugin` begins the story."""
