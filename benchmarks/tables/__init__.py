"""Result files folded into tables."""
