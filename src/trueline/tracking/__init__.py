"""What a training says about itself, and its way into MLflow: a journal in the run's folder, fed on in batches."""
