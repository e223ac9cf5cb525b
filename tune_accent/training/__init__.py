"""One trial: an iterator of epoch reports that knows nothing of Ray."""
