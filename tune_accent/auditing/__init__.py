"""The audit of the frozen model: where, over its depth, accent and speaker can be read, and beside it in the sound itself."""
