"""Run by a Python that has the whole of MLflow: its scoring client asks a trueline server; what it was told goes to stdout as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import requests
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import dump_input_data

FRAME = pd.DataFrame({"x": [1.5, 2.5, -3.0], "n": [1, None, 3], "plan": ["a", "b", "ü"]})


def main(url):
    host, port = url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.wait_server_ready(timeout=20)
    told = {"version": client.get_version()}
    told["frame"] = client.invoke(FRAME).get_predictions()[0].tolist()
    told["with params"] = client.invoke(FRAME, params={"threshold": 0.5}).get_predictions()[0].tolist()
    columns = {"inputs": {name: FRAME[name].fillna(0).tolist() for name in FRAME}}
    told["columns"] = post(url, json.dumps(columns), "application/json")
    told["matrix"] = numbers(client, FRAME)
    records = {"dataframe_records": json.loads(FRAME.to_json(orient="records"))}
    told["records"] = post(url, json.dumps(records), "application/json")
    told["instances"] = post(url, json.dumps({"instances": records["dataframe_records"]}), "application/json")
    told["csv"] = post(url, FRAME.to_csv(index=False), "text/csv")
    told["refused"] = refused(client, FRAME)
    return told


def numbers(client, frame):
    values = frame.fillna(0).to_numpy()
    return client.invoke(np.array(values.tolist(), dtype=object)).get_predictions()[0].tolist()


def post(url, body, kind):
    reply = requests.post(f"{url}/invocations", data=body.encode(), headers={"Content-Type": kind}, timeout=20)
    reply.raise_for_status()
    return PredictionsResponse.from_json(reply.text).get_predictions()[0].tolist()


def refused(client, frame):
    reply = requests.post(
        f"{client.url_prefix}/invocations",
        data=dump_input_data(frame[["x"]]),
        headers={"Content-Type": "application/json"},
        timeout=20,
    )
    return [reply.status_code, reply.json()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
