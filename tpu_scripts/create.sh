#!/usr/bin/env bash
# Asks for a TPU slice through a queued resource, waits until it is there, and installs this repository on its hosts.
#
#   tpu_scripts/create.sh --name=NAME --zone=ZONE --topology=v5e:4x4 [flags]
#
#   --name=NAME          of the queued resource and of the slice
#   --zone=ZONE          such as us-west4-a
#   --topology=T         v5e:AxB or v5p:AxBxC, as in tpu_scripts.plan
#   --project=PROJECT    instead of gcloud's own setting
#   --spot               may be preempted, for less money; without it: on demand
#   --runtime=VERSION    instead of the runtime image that suits the family
#   --repository=URL     git repository to install; default: the origin of this checkout
#   --revision=REV       branch, tag or commit of it; default: the commit of this checkout
#   --wait-minutes=N     how long to wait for the slice; default 720
#   --no-install         only ask and wait
#   --dry-run            print every command, run none
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
source "$HERE/common.sh"

TOPOLOGY="" RUNTIME="" REPOSITORY="" REVISION="" SPOT=0 INSTALL=1 WAIT_MINUTES=720
for flag in "$@"; do
  common_flag "$flag" && continue
  case "$flag" in
    --topology=*) TOPOLOGY=$(value_of "$flag") || exit ;;
    --runtime=*) RUNTIME=$(value_of "$flag") || exit ;;
    --repository=*) REPOSITORY=$(value_of "$flag") || exit ;;
    --revision=*) REVISION=$(value_of "$flag") || exit ;;
    --wait-minutes=*) WAIT_MINUTES=$(value_of "$flag") || exit ;;
    --spot) SPOT=1 ;;
    --no-install) INSTALL=0 ;;
    --help) usage_of "$0" && exit ;;
    *) fail "$flag: accepted are the flags that --help lists" ;;
  esac
done
check_common
[[ -n "$TOPOLOGY" ]] || fail "--topology is missing: accepted is a slice, such as --topology=v5e:4x4"
[[ "$WAIT_MINUTES" =~ ^[1-9][0-9]*$ ]] || fail "--wait-minutes=$WAIT_MINUTES: accepted is a whole number from 1"
ACCELERATOR=$(accelerator_of "$TOPOLOGY") || exit
if ((INSTALL)); then
  : "${REPOSITORY:=$(git -C "$HERE" remote get-url origin 2>/dev/null || true)}"
  : "${REVISION:=$(git -C "$HERE" rev-parse HEAD 2>/dev/null || true)}"
  [[ -n "$REPOSITORY" ]] || fail "--repository is missing and this checkout has no origin: accepted is a URL for git clone"
  [[ -n "$REVISION" ]] || fail "--revision is missing and this is no git checkout: accepted is a branch, tag or commit"
fi

request=(queued-resources create "$NAME" "--node-id=$NAME" "--accelerator-type=$ACCELERATOR"
  "--runtime-version=${RUNTIME:-$(runtime_of "$TOPOLOGY")}")
((SPOT)) && request+=(--spot)
gcloud_tpu "${request[@]}"

if ((DRY_RUN)); then
  state_of_request
else
  for ((minute = 0; ; minute++)); do
    state=$(state_of_request)
    case "$state" in
      ACTIVE) break ;;
      FAILED | SUSPENDED | SUSPENDING | ABSENT) fail "the request for $NAME is $state: delete.sh removes it" ;;
    esac
    ((minute < WAIT_MINUTES)) || fail "$NAME is still $state after $WAIT_MINUTES minutes; the request stays in the queue"
    printf 'create: %s is %s\n' "$NAME" "$state"
    sleep 60
  done
fi

if ((INSTALL)); then
  setup=$(printf 'set -e; [ -d %q ] || git clone -q %q %q; cd %q; git fetch -q origin; git checkout -q %q; ' \
    "$REPOSITORY_DIR" "$REPOSITORY" "$REPOSITORY_DIR" "$REPOSITORY_DIR" "$REVISION")
  on_hosts all "${setup}make venv EXTRAS=demo,tpu"
fi
