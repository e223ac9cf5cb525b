"""The paper run: the winner of a search turned into something that a reviewer can check."""
