"""Where a run came from, and where its figures go."""
