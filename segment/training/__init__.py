"""Training: what needs Keras, and nothing that serves a model imports."""
