"""Optimal quantisation of a point cloud: codebooks, the weights of their cells, Wasserstein distances."""

from ddoq.quantization.codebook import Codebook
from ddoq.quantization.quantize import METHODS, quantize
from ddoq.quantization.wasserstein import wasserstein2
from ddoq.quantization.weights import cell_weights

__all__ = ["METHODS", "Codebook", "cell_weights", "quantize", "wasserstein2"]
