"""What work takes: floating-point operations, memory, and the stages of a run, counted before anything runs."""
