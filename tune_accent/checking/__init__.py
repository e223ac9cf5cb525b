"""Is this machine ready for this experiment? The checks behind `python -m tune_accent.doctor`."""
