"""Tasks and streams of tasks: examples in memory or read lazily, and where they come from."""
