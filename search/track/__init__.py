"""Trials written to trackers: MLflow, TensorBoard and Weights & Biases."""
