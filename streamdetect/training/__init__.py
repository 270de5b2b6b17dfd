"""What needs scikit-learn: fitting the ensemble and exporting it. Nothing that serves a model imports it."""
