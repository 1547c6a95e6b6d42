"""Tasks, scorers, statistics, and the runner of one architecture over many items."""
