"""Real images whose mean feature comes nearest to that of their class."""

from torch import Tensor

from baselines.selection import FeatureSelection
from ddoq.selection import herding


class Herding(FeatureSelection):
    """Keep images one by one, each so that the mean feature of those kept comes nearest to the mean of the class.

    Features are what the teacher's last layer sees. The images of a smaller budget are the first of a larger one.

    Source: M. Welling, *Herding Dynamical Weights to Learn*, ICML 2009; the coreset row of the papers on dataset
    condensation since B. Zhao, K. R. Mopuri and H. Bilen, ICLR 2021.
    """

    method = "herding"

    def choose(self, features: Tensor) -> Tensor:
        """Match the class mean greedily."""
        return herding(features, self.ipc)
