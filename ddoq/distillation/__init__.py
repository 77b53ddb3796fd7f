"""What every method shares: the distiller, its work items and shards, and the set that comes out."""
