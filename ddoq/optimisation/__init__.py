"""Loops of long optimisations: steps that survive a kill, and trainings through Lightning that do."""
