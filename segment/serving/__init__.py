"""Serving: a model file in, probabilities of a volume out."""
