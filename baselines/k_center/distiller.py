"""Real images that leave no image of their class far away."""

from torch import Tensor

from baselines.selection import FeatureSelection
from ddoq.selection import k_center


class KCenter(FeatureSelection):
    """Keep the image nearest to the mean feature of its class, then always the one farthest from those kept.

    Features are what the teacher's last layer sees. The images of a smaller budget are the first of a larger one.

    Source: O. Sener and S. Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR
    2018, algorithm 1; a coreset row of the papers on dataset condensation.
    """

    method = "k-center"

    def choose(self, features: Tensor) -> Tensor:
        """Take the farthest first."""
        return k_center(features, self.ipc)
