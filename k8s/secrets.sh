#!/usr/bin/env bash
# Make the platform's secrets, drawn at random, in a namespace of Kubernetes: secrets.sh [NAMESPACE].
# A secret that is there is kept, so a second run changes nothing; nothing is printed or left on disk.
set -euo pipefail
namespace=${1:-geminga}

draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

make() { # NAME KEY=VALUE...: values go through a pipe, where no list of processes shows them
  local name=$1 pair
  shift
  if kubectl --namespace "$namespace" get secret "$name" >/dev/null 2>&1; then
    echo "secret $name is there: kept"
    return
  fi
  {
    printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n' "$name"
    printf '  labels:\n    app.kubernetes.io/part-of: geminga\ndata:\n'
    for pair in "$@"; do
      printf '  %s: %s\n' "${pair%%=*}" "$(printf '%s' "${pair#*=}" | base64 | tr -d '\n')"
    done
  } | kubectl --namespace "$namespace" create --filename -
}

make geminga-ray "auth_token=$(draw)"

# MLflow's settings name the database with its password, so the two are made together or not at all.
password=$(draw)
if kubectl --namespace "$namespace" get secret geminga-postgres >/dev/null 2>&1; then
  password=$(kubectl --namespace "$namespace" get secret geminga-postgres \
    --output 'jsonpath={.data.password}' | base64 --decode)
fi
make geminga-postgres "password=$password"
user=geminga login=$(draw)
make geminga-mlflow "username=$user" "password=$login" "flask-key=$(draw)" "basic_auth.ini=[mlflow]
default_permission = READ
database_uri = postgresql+psycopg2://mlflow:$password@geminga-postgres:5432/mlflow
admin_username = $user
admin_password = $login
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"

identity() { # NAME KEY SECRET ACTIONS
  printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' "$@"
}
bucket() { printf '"Read:%s", "Write:%s", "List:%s", "Tagging:%s"' "$1" "$1" "$1" "$1"; }
admin_key=$(draw) admin_secret=$(draw) runs_key=$(draw) runs_secret=$(draw)
mlflow_key=$(draw) mlflow_secret=$(draw)
make geminga-store \
  "admin-access-key=$admin_key" "admin-secret-key=$admin_secret" \
  "runs-access-key=$runs_key" "runs-secret-key=$runs_secret" \
  "mlflow-access-key=$mlflow_key" "mlflow-secret-key=$mlflow_secret" \
  "s3.json={\"identities\": [
$(identity admin "$admin_key" "$admin_secret" '"Admin"'),
$(identity runs "$runs_key" "$runs_secret" "$(bucket geminga-runs)"),
$(identity mlflow "$mlflow_key" "$mlflow_secret" "$(bucket geminga-mlflow)")
]}"

make geminga-redis "password=$(draw)"
