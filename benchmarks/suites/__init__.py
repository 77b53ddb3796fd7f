"""Grids of cells: their files, their jobs, their runner and their tables."""
