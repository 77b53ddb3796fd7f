"""Evaluation of distilled graphs."""
