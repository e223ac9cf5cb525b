"""Corpora, manifests, splits, codecs and the prepared cache."""
