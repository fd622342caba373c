#!/usr/bin/env bash
# Submit one update of the catalogue to the Ray cluster and follow it to its end: count the event
# files that are new, then search all counts. Ends with the job's exit code; told to stop, it stops
# the job too, so that no two updates run at once.
set -euo pipefail
: "${JOB_NAME:?} ${RAY_HEAD:?} ${CONFIG:?}"

trap 'ray job stop --address "$RAY_HEAD" "$JOB_NAME"; exit 143' TERM INT

ray job submit --address "$RAY_HEAD" --submission-id "$JOB_NAME" -- bash -c '
  set -euo pipefail
  shopt -s nullglob
  files=(/data/events/*.fits /data/events/*.fits.gz)
  if ((${#files[@]} == 0)); then
    echo "no event files in /data/events: nothing to do"
    exit 0
  fi
  maps=/data/ingested/counts catalogue=/data/catalogue/catalog.fits
  python /app/jobs/ingest.py --config "$1" --events "${files[@]}" --out /data/ingested
  if [[ $catalogue -nt $maps/provenance.json ]]; then
    echo "no new event files: $catalogue stays"
    exit 0
  fi
  python /app/jobs/detect.py --counts "$maps"/*.fits --exposure builtin --out /data/catalogue
' update "$CONFIG" &
wait $!
