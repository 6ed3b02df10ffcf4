# shellcheck shell=bash
# Shared by the launchers: flags, errors, and commands that are either run or, with --dry-run, printed.

NAME="" ZONE="" PROJECT="" DRY_RUN=0
# Where the repository stands on the hosts, in the home directory.
# shellcheck disable=SC2034  # read by the launchers
REPOSITORY_DIR="qomni-jax"

fail() {
  printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
  exit 2
}

# run COMMAND...: runs it, or prints it so that a shell would take it in again.
run() {
  if ((DRY_RUN)); then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# value_of FLAG: what stands behind the first "=" of --flag=value; an empty value is refused.
value_of() {
  [[ "$1" == *=?* ]] || fail "$1: accepted is ${1%%=*}=VALUE"
  printf '%s' "${1#*=}"
}

# common_flag FLAG: takes one of the flags that all launchers have; returns 1 for another.
common_flag() {
  case "$1" in
    --name=*) NAME=$(value_of "$1") || exit ;;
    --zone=*) ZONE=$(value_of "$1") || exit ;;
    --project=*) PROJECT=$(value_of "$1") || exit ;;
    --dry-run) DRY_RUN=1 ;;
    *) return 1 ;;
  esac
}

# usage_of SCRIPT: the comment at the head of a launcher is its help.
usage_of() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"
}

check_common() {
  [[ -n "$NAME" ]] || fail "--name is missing: accepted is a name for the slice, such as --name=aria"
  [[ "$NAME" =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] ||
    fail "--name=$NAME: accepted are small letters, digits and hyphens, a letter first"
  [[ -n "$ZONE" ]] || fail "--zone is missing: accepted is a zone with TPUs, such as --zone=us-west4-a"
  [[ "$ZONE" =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || fail "--zone=$ZONE: accepted is a zone, such as us-west4-a"
  ((DRY_RUN)) || command -v gcloud >/dev/null || fail "gcloud was not found: accepted is an installed Google Cloud CLI"
}

# accelerator_of TOPOLOGY: Cloud TPU's name of a slice. v5e counts chips, v5p counts cores, two a chip.
accelerator_of() {
  local shape=${1#*:} v5e="1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16" chips=1 size
  local v5p="2x2x1 2x2x2 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16 16x16x16 16x16x24"
  case "$1" in
    v5e:*) [[ " $v5e " == *" $shape "* ]] || fail "--topology=$1: accepted shapes of v5e are ${v5e// /, }" ;;
    v5p:*) [[ " $v5p " == *" $shape "* ]] || fail "--topology=$1: accepted shapes of v5p are ${v5p// /, }" ;;
    *) fail "--topology=$1: accepted is v5e:AxB or v5p:AxBxC, such as v5e:4x4 or v5p:2x2x2" ;;
  esac
  for size in ${shape//x/ }; do
    chips=$((chips * size))
  done
  if [[ "$1" == v5e:* ]]; then
    printf 'v5litepod-%d' "$chips"
  else
    printf 'v5p-%d' $((2 * chips))
  fi
}

runtime_of() {
  case "${1%%:*}" in
    v5e) printf 'v2-alpha-tpuv5-lite' ;;
    v5p) printf 'v2-alpha-tpuv5' ;;
  esac
}

# gcloud_tpu GROUP VERB ARGUMENTS...: a gcloud command on the slice's zone and project.
gcloud_tpu() {
  local arguments=(gcloud compute tpus "$@" "--zone=$ZONE")
  [[ -z "$PROJECT" ]] || arguments+=("--project=$PROJECT")
  run "${arguments[@]}"
}

# on_hosts WORKER COMMAND: runs a command line on one host of the slice, or on "all" of them.
on_hosts() {
  gcloud_tpu tpu-vm ssh "$NAME" "--worker=$1" "--command=$2"
}

# state_of_request: the queued resource's state, ABSENT where there is none.
state_of_request() {
  local arguments=(gcloud compute tpus queued-resources describe "$NAME" "--zone=$ZONE" "--format=value(state.state)")
  [[ -z "$PROJECT" ]] || arguments+=("--project=$PROJECT")
  if ((DRY_RUN)); then
    run "${arguments[@]}"
  else
    "${arguments[@]}" 2>/dev/null || printf 'ABSENT\n'
  fi
}
