"""How long drift takes over windows of the prediction log, beside Evidently."""
