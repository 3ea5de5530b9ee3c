#!/usr/bin/env bash
# mlflow-skinny 3.17.2: download_artifacts("models:/...") ignores the addresses that it is given.
#
# mlflow.artifacts.download_artifacts takes tracking_uri and registry_uri. For an artifact of a run ("runs:/...") the
# first is heeded. For a version of a registered model ("models:/...") neither is: the store of the whole process is
# asked, which does not know the model, and the call makes mlflow.db in the current folder. A program that
# keeps several stores apart, and sets none for the whole process, must look up the version with a client of its own
# (MlflowClient(uri).get_model_version_download_uri) and download that.
#
# Seen:
#     by the run: here
#     by the model: MlflowException
#     made here: ['mlflow.db']
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q mlflow-skinny==3.17.2 sqlalchemy==2.0.45 alembic==1.17.2
mkdir "$place/work"
cat > "$place/see.py" <<'PY'
import os
import tempfile
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

store = tempfile.mkdtemp()
uri = f"sqlite:///{store}/own.db"
client = MlflowClient(uri)
run = client.create_run(client.create_experiment("nights", artifact_location=f"{store}/artifacts"))
Path(store, "x.txt").write_text("here")
client.log_artifact(run.info.run_id, f"{store}/x.txt", "m")
client.create_registered_model("m")
client.create_model_version("m", f"{run.info.artifact_uri}/m", run.info.run_id)
found = download_artifacts(f"runs:/{run.info.run_id}/m/x.txt", tracking_uri=uri)
print("by the run:", Path(found).read_text())
try:
    print("by the model:", download_artifacts("models:/m/1", tracking_uri=uri, registry_uri=uri))
except Exception as error:
    print("by the model:", type(error).__name__)
print("made here:", sorted(os.listdir()))
PY
seen=$(cd "$place/work" && "$place/venv/bin/python" "$place/see.py" 2> /dev/null)
echo "$seen"
[ "$seen" = "by the run: here
by the model: MlflowException
made here: ['mlflow.db']" ]
