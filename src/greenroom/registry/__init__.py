"""The model registry, over MLflow's REST interface and without importing MLflow."""
