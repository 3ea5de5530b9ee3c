"""What is kept in files: agents, checkpoints, and the names that files know things by."""
