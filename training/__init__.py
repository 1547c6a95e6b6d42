"""Training of the embedded models; not installed, run from a checkout on a machine with a GPU."""
