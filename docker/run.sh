#!/usr/bin/env bash
# Runs a command in the image, with the checkout's runs/ and captures/ mounted: docker/run.sh ENGINE IMAGE COMMAND...
#   DKP_DATA=FOLDER  real captures, mounted read-only
#   GPUS=all         graphics cards, where the engine is docker
set -euo pipefail
engine=$1 image=$2
shift 2
checkout=$(cd "$(dirname "$0")/.." && pwd)
options=()
for folder in runs captures; do
    # Folders that root makes here would be closed to the user of the image.
    [ -d "$checkout/$folder" ] || install --directory $([ "$(id -u)" != 0 ] || echo "--owner=${UID_IN_IMAGE:-1000}") "$checkout/$folder"
    options+=(--volume "$checkout/$folder:/dkp/$folder")
done
[ -z "${DKP_DATA:-}" ] || options+=(--volume "$DKP_DATA:/data:ro" --env DKP_DATA=/data)
if [ "$(basename "$engine")" = buildah ]; then
    container=$("$engine" from "$image")
    trap '"$engine" rm "$container" >/dev/null' EXIT
    "$engine" run "${options[@]}" "$container" -- "$@"
else
    [ -z "${GPUS:-}" ] || options+=(--gpus "$GPUS")
    exec "$engine" run --rm --init --shm-size=1g --cap-drop=ALL --security-opt=no-new-privileges "${options[@]}" "$image" "$@"
fi
