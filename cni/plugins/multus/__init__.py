"""The multus meta-plugin; `plugin` begins the story."""
