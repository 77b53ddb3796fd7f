"""The way of a run: its parts, its cells, and the ranks that share them."""
