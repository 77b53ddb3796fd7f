"""How good a prior is to decode with, over strength and guidance: the work behind ``ddoq-bench decoding``."""
