"""The sriov plugin; `plugin` begins the story."""
