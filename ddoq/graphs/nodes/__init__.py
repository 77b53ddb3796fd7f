"""Labelled nodes of one graph: datasets, and distilled graphs of nodes."""
