"""Engines: how the gradients of optimizer steps are computed."""
