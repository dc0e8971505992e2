"""An MLflow model that answers with probabilities. `python mlflow_save.py MODEL FOLDER [COLUMN …]`, columns for a signature."""

from __future__ import annotations

import sys

import joblib
import mlflow.sklearn
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

if __name__ == "__main__":
    model, folder, *columns = sys.argv[1:]
    signature = ModelSignature(inputs=Schema([ColSpec("double", name) for name in columns])) if columns else None
    mlflow.sklearn.save_model(
        joblib.load(model),
        folder,
        signature=signature,
        pyfunc_predict_fn="predict_proba",
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        pip_requirements=[],  # it is served where it is saved
    )
