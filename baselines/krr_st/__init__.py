"""KRR-ST: images and target vectors, learned without labels, from which a self-supervised network is regained."""

from baselines.krr_st.distiller import KRRST

__all__ = ["KRRST"]
