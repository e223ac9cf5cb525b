"""The search: a pure core, its memo, and the thin Ray adapter that executes it."""
