"""Tasks and streams of tasks: their examples, in memory or read lazily, and where these come from."""
