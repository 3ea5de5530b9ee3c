"""Files: agents, checkpoints, and the names that stand in files for functions, classes and settings."""
