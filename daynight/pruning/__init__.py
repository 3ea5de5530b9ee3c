"""Which weights a prune keeps, and how many."""

from daynight.pruning.masks import keep_top, keep_top_globally, keep_top_per_layer, layer_adaptive

__all__ = ["keep_top", "keep_top_globally", "keep_top_per_layer", "layer_adaptive"]
