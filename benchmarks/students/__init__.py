"""Students: who they are, how they are trained on a distilled set, and how they are tested."""
