"""Tasks and streams of tasks: examples in memory or read lazily, and the sources of examples."""
