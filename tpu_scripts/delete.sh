#!/usr/bin/env bash
# Gives a slice back: deletes its queued resource and its hosts.
#
#   tpu_scripts/delete.sh --name=NAME --zone=ZONE [--project=PROJECT] [--dry-run]
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
source "$HERE/common.sh"

for flag in "$@"; do
  common_flag "$flag" && continue
  case "$flag" in
    --help) usage_of "$0" && exit ;;
    *) fail "$flag: accepted are the flags that --help lists" ;;
  esac
done
check_common
gcloud_tpu queued-resources delete "$NAME" --force --quiet
