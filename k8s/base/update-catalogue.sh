#!/usr/bin/env bash
# Submit one update of the catalogue to the Ray cluster and follow it to its end: count the event
# files that have arrived, put them aside, and search all counts. Fails if the job does (the job's own
# exit code is in its last line); told to stop, it stops the job too, so that no two run at once.
set -euo pipefail
: "${JOB_NAME:?} ${RAY_HEAD:?} ${CONFIG:?}"

trap 'ray job stop --address "$RAY_HEAD" "$JOB_NAME"; exit 143' TERM INT

ray job submit --address "$RAY_HEAD" --submission-id "$JOB_NAME" -- bash -c '
  set -euo pipefail
  shopt -s nullglob
  maps=/data/ingested/counts catalogue=/data/catalogue/catalog.fits
  # At night the cluster has shrunk to no worker; asked for none, it would bring one for two pieces.
  cores="--set run.workers=8"
  files=(/data/events/*.fits /data/events/*.fits.gz)
  if ((${#files[@]})); then
    python /app/jobs/ingest.py --config "$1" --events "${files[@]}" --out /data/ingested $cores
    # Out of the way, so that the next update need not read them again to see that it knows them.
    mkdir -p /data/events/counted
    mv --no-clobber -- "${files[@]}" /data/events/counted/
  fi
  if [[ ! -e $maps/provenance.json || $catalogue -nt $maps/provenance.json ]]; then
    echo "no new event files in /data/events: nothing to do"
    exit 0
  fi
  python /app/jobs/detect.py --counts "$maps"/*.fits --exposure builtin --out /data/catalogue $cores
' update "$CONFIG" &
wait $!
