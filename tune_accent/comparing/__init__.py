"""A search beside other searches of the same space: other engines here, other results folders, W&B sweeps, set side by side over repeats."""
