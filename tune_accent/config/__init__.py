"""The experiment and the search space, read from YAML and checked."""
