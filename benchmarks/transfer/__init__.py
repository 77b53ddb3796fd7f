"""The evaluation of sets without classes: what a network that learned from them is worth on other tasks."""
