#!/usr/bin/env bash
# Shows what an experiment prints on a host of a slice.
#
#   tpu_scripts/logs.sh --name=NAME --zone=ZONE [flags]
#
#   --name=NAME, --zone=ZONE, --project=PROJECT   as in create.sh
#   --worker=N     the host, or all; default 0
#   --lines=N      from how many lines before the end; default 100
#   --follow       go on as lines come
#   --dry-run      print every command, run none
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
source "$HERE/common.sh"

WORKER=0 LINES_BACK=100 FOLLOW=""
for flag in "$@"; do
  common_flag "$flag" && continue
  case "$flag" in
    --worker=*) WORKER=$(value_of "$flag") || exit ;;
    --lines=*) LINES_BACK=$(value_of "$flag") || exit ;;
    --follow) FOLLOW=" -F" ;;
    --help) usage_of "$0" && exit ;;
    *) fail "$flag: accepted are the flags that --help lists" ;;
  esac
done
check_common
[[ "$WORKER" =~ ^([0-9]+|all)$ ]] || fail "--worker=$WORKER: accepted is a host's number or all"
[[ "$LINES_BACK" =~ ^[0-9]+$ ]] || fail "--lines=$LINES_BACK: accepted is a whole number"
on_hosts "$WORKER" "tail -n $LINES_BACK$FOLLOW ~/$NAME.log"
