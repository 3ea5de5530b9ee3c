"""How optimizer steps are computed."""
