#!/usr/bin/env bash
# Runs an experiment on every host of a slice, and goes on with it when the slice is preempted.
#
#   tpu_scripts/run.sh --name=NAME --zone=ZONE --experiment=experiments.aria_ablation [flags] -- EXPERIMENT FLAGS...
#
#   --name=NAME, --zone=ZONE, --project=PROJECT   as in create.sh
#   --experiment=MODULE  a module that `python -m` runs; what stands after -- goes to it (--gin_file, --gin_bindings,
#                        --workdir=gs://...); it resumes from its workdir
#   --retries=N          how often a preempted slice is asked for again; default 20; needs --topology
#   --topology=T, --spot, --runtime=V, --repository=URL, --revision=REV, --wait-minutes=N
#                        as in create.sh, for asking again
#   --dry-run            print every command, run none
#
# Each host starts `python -m qomni_jax.parallel.distributed MODULE FLAGS`, which connects the hosts and runs the module.
# The experiment's exit status is this script's. Its output stands in NAME.log on each host (logs.sh).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
source "$HERE/common.sh"

EXPERIMENT="" TOPOLOGY="" RETRIES=20
create_flags=() arguments=()
while (($#)); do
  flag=$1
  shift
  if [[ "$flag" == -- ]]; then
    arguments=("$@")
    break
  fi
  common_flag "$flag" && continue
  case "$flag" in
    --experiment=*) EXPERIMENT=$(value_of "$flag") || exit ;;
    --retries=*) RETRIES=$(value_of "$flag") || exit ;;
    --topology=*) TOPOLOGY=$(value_of "$flag") || exit && create_flags+=("$flag") ;;
    --runtime=* | --repository=* | --revision=* | --wait-minutes=* | --spot) create_flags+=("$flag") ;;
    --help) usage_of "$0" && exit ;;
    *) fail "$flag: accepted are the flags that --help lists; an experiment's own flags stand after --" ;;
  esac
done
check_common
[[ "$EXPERIMENT" =~ ^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)*$ ]] ||
  fail "--experiment=$EXPERIMENT: accepted is a module, such as experiments.aria_ablation"
[[ "$RETRIES" =~ ^[0-9]+$ ]] || fail "--retries=$RETRIES: accepted is a whole number"
[[ -z "$TOPOLOGY" ]] || accelerator_of "$TOPOLOGY" >/dev/null || exit

common=("--name=$NAME" "--zone=$ZONE")
[[ -z "$PROJECT" ]] || common+=("--project=$PROJECT")
((DRY_RUN)) && common+=(--dry-run)

quoted=$(printf '%q ' "$EXPERIMENT" ${arguments[@]+"${arguments[@]}"})
# A run that the same host still holds (after a lost connection) is ended first, and waited for: two must not write one
# workdir, nor hold the chips.
command="set -o pipefail; cd $REPOSITORY_DIR; if [ -f ~/$NAME.pid ]; then old=\$(cat ~/$NAME.pid); kill \$old 2>/dev/null && timeout 60 tail --pid=\$old -f /dev/null; fi; \
echo \$\$ > ~/$NAME.pid; exec .venv/bin/python -m qomni_jax.parallel.distributed ${quoted}>> ~/$NAME.log 2>&1"

for ((attempt = 0; ; attempt++)); do
  status=0
  on_hosts all "$command" || status=$?
  if ((DRY_RUN)); then
    printf '# and where that ends because the slice was preempted:\n'
    state_of_request
    [[ -n "$TOPOLOGY" ]] || exit 0
    "$HERE/delete.sh" "${common[@]}"
    "$HERE/create.sh" "${common[@]}" "${create_flags[@]}"
    exit 0
  fi
  ((status == 0)) && exit 0
  state=$(state_of_request)
  # An active slice means that the experiment itself failed: trying again would fail again.
  [[ "$state" != ACTIVE ]] || { printf 'run: %s ended with %d; logs.sh shows why\n' "$EXPERIMENT" "$status" >&2 && exit "$status"; }
  [[ -n "$TOPOLOGY" ]] || fail "$NAME is $state and --topology is missing: accepted is the slice to ask for again"
  ((attempt < RETRIES)) || fail "$NAME was lost $((attempt + 1)) times: accepted are more with --retries"
  printf 'run: %s is %s; asking for it again (%d of %d)\n' "$NAME" "$state" $((attempt + 1)) "$RETRIES"
  [[ "$state" == ABSENT ]] || "$HERE/delete.sh" "${common[@]}"
  "$HERE/create.sh" "${common[@]}" "${create_flags[@]}"
done
