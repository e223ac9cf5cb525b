"""Measurements that the README and the LOG quote. Each prints its figure beside its baseline, both from the same run."""
