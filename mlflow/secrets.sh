#!/usr/bin/env bash
# Draw the secrets of compose.yaml at random into mlflow/.env, readable for its owner alone.
set -euo pipefail
umask 077
file=$(cd "$(dirname "$0")" && pwd)/.env
if [ -f "$file" ]; then
  echo "$file is there: kept"
  exit
fi
draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
cat >"$file.new" <<END
MLFLOW_USERNAME=geminga
MLFLOW_PASSWORD=$(draw)
FLASK_KEY=$(draw)
POSTGRES_PASSWORD=$(draw)
S3_ACCESS_KEY=$(draw)
S3_SECRET_KEY=$(draw)
END
mv "$file.new" "$file"
echo "secrets in $file: log in with MLFLOW_USERNAME and MLFLOW_PASSWORD"
