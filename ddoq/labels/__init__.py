"""Losses for hard and soft labels, and a compact form of the labels that are stored."""
