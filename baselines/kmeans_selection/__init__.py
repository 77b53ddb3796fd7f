"""K-means selection: the real images nearest to the centroids of their class."""

from baselines.kmeans_selection.distiller import KMeansSelection

__all__ = ["KMeansSelection"]
