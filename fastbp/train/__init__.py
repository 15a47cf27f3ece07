"""Drivers of training: update rules in blocks of epochs, SciPy's L-BFGS; counts of threads."""
