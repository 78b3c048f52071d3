"""Trials written to trackers: MLflow and TensorBoard."""
