"""The macvlan plugin; `plugin` begins the story."""
