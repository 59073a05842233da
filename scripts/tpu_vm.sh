#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU VM, and goes on after a preemption:
#
#   scripts/tpu_vm.sh resume --name a --zone us-central1-a --type v5litepod-16 --spot \
#       --workdir gs://bucket/run -- vae --dataset mnist --epochs 100
#
# docs/clusters.md says what it does about what goes wrong there.

set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/tpu_vm.sh COMMAND [OPTIONS] [-- PRESET TRAIN_ARGUMENTS...]

Commands:
  create    make the TPU VM, and wait until it is ready
  install   install vaejax on all hosts
  start     end what holds the TPU, and start training on all hosts
  follow    show the log of host 0; ends with the exit code of its run
  status    show the state of the TPU and the exit codes of its runs
  resume    all of the above, and again after each preemption, until the run is done
  stop      end the run on all hosts; it saves first
  delete    delete the TPU VM

Options, each also as an environment variable (--name is NAME, --dry-run DRY_RUN=1):
  --name NAME          of the TPU VM
  --zone ZONE          as in us-central1-a
  --project PROJECT    by default gcloud's
  --type TYPE          as in v5litepod-16
  --version VERSION    of the TPU's software; by default the one for the type
  --spot               ask for a spot VM, which may be preempted
  --queued             wait in the queue for a VM; --spot does, too
  --workdir PATH       gs://BUCKET/PATH, or with --shared a folder that all hosts mount
  --shared             the workdir is such a folder
  --repo URL           to install from; by default the origin of this clone
  --ref REF            commit, tag or branch of it; by default the commit of this clone
  --python VERSION     by default 3.12
  --uv VERSION         of uv, which installs Python and packages; by default 0.13.7
  --heartbeat-port P   where the hosts meet; by default 8476
  --poll SECONDS       between looks at the TPU; by default 20
  --restarts N         of a run that fails on a sound TPU; by default 10
  --create-flag FLAG   one more flag for gcloud's create; may be repeated
  --ssh-flag FLAG      one more flag for gcloud's ssh; may be repeated
  --dry-run            print the commands instead
END
}

die() { # one line
  echo "error: $*" >&2
  exit 2
}

say() { echo "tpu_vm: $*" >&2; }

quote() { # a word for any shell, which shlex can read, too
  if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
    printf '%s' "$1"
  else
    printf "'%s'" "${1//\'/\'\\\'\'}"
  fi
}

quoted() { # all words, on a line
  local word line=
  for word; do line+="${line:+ }$(quote "$word")"; done
  printf '%s\n' "$line"
}

run() { if ((DRY_RUN)); then quoted "$@" >&3; else "$@"; fi; }

on_tpu() { # GROUP VERB FLAGS...: gcloud on this TPU
  local flags=("--zone=$ZONE")
  [[ -z $PROJECT ]] || flags+=("--project=$PROJECT")
  run gcloud compute tpus "$1" "$2" "$NAME" "${flags[@]}" --quiet "${@:3}"
}

on_hosts() { # all, or a number; a function of tpu_host.sh and its arguments
  local script functions=("$2")
  case $2 in
    worker_code) functions+=(worker_run) ;;
    worker_follow) functions+=(worker_run worker_code) ;;
    worker_end) functions+=(worker_run worker_holders) ;;
  esac
  script=$(printf 'set -euo pipefail\n%s\n%s' "$(declare -f "${functions[@]}")" \
    "$(quoted "${@:2}")")
  on_tpu tpu-vm ssh "--worker=$1" "${SSH_FLAGS[@]}" \
    "--command=bash -c $(quote "$script")"
}

software() { # the version for the type, of Google's table
  case $TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-* | v5e-*) echo v2-alpha-tpuv5-lite ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) die "--type $TYPE: give its software by --version" ;;
  esac
}

make() {
  local version spot=()
  version=${VERSION:-$(software)}
  if ((QUEUED)); then
    ((!SPOT)) || spot=(--spot)
    on_tpu queued-resources create "--node-id=$NAME" "--accelerator-type=$TYPE" \
      "--runtime-version=$version" "${spot[@]}" "${CREATE_FLAGS[@]}"
  else
    on_tpu tpu-vm create "--accelerator-type=$TYPE" "--version=$version" \
      "${CREATE_FLAGS[@]}"
  fi
  ASSUMED=READY
}

delete() {
  if ((QUEUED)); then
    on_tpu queued-resources delete --force
  else
    on_tpu tpu-vm delete
  fi
}

look() { # GROUP FIELD: what gcloud describes; nothing where it is not there
  local errors
  errors=$(mktemp)
  on_tpu "$1" describe "--format=value($2)" 2>"$errors" ||
    grep -qi 'not[_ ]found' "$errors" || { cat "$errors" >&2 && echo UNKNOWN; }
  rm -f "$errors"
}

state() { # of the TPU, or of its place in the queue
  local found
  found=$(look tpu-vm state)
  [[ $found ]] || ((!QUEUED)) || found=$(look queued-resources state.state)
  if ((DRY_RUN)); then echo "$ASSUMED"; else echo "$found"; fi
}

ready() { # waits for the TPU; one that is gone or preempted is made anew
  local now
  while true; do
    now=$(state)
    case $now in
      READY) return ;;
      '') say "making $NAME" && make ;;
      PREEMPTED | TERMINATED | STOPPED | SUSPENDED | FAILED)
        say "$NAME is $now: deleting it"
        delete
        ;;
      *) say "$NAME is $now: waiting" && sleep "$POLL" ;;
    esac
  done
}

install() {
  on_hosts all worker_install "$REPO" "$REF" "$PYTHON" "$UV" | tee >(cat >&2) |
    sed -n 's/^vaejax-installed: //p' | sort -u | {
    mapfile -t found
    ((${#found[@]} < 2)) || die "hosts differ in what is installed: give --ref a commit"
  }
}

start() {
  on_hosts all worker_end 120 &&
    on_hosts all worker_start "$HEARTBEAT_PORT" "${TRAIN[@]}" \
      --workdir "$WORKDIR" --distributed
}

codes() { # a word for each host; fails where one is not reached
  on_hosts all worker_code | sed -n 's/^vaejax-run: //p' | tr '\n' ' '
  ((!DRY_RUN)) || echo 0
}

watch() { # follows the run until no host runs it, whatever happens to the connection
  local found unreached=0
  while true; do
    on_hosts 0 worker_follow >&3 || true
    if found=$(codes); then
      [[ " $found" == *" running "* ]] || break
    else
      found=unreached
      ((++unreached < 5)) && [[ $(state) == READY ]] || break
    fi
    sleep "$POLL"
  done
  echo "$found"
}

verdict() { # of exit codes: 0, a code that comes again if the run does, or `again`
  local code worst=0
  for code in ${1:-none}; do
    case $code in
      0) ;;
      1 | 2) worst=$code ;;
      *) worst=again && break ;; # 143 is SIGTERM, 134 another host's death
    esac
  done
  echo "$worst"
}

resume() {
  local restarts=0 found result
  while true; do
    ready
    result=again
    if install && start; then
      found=$(watch)
      say "exit codes of the hosts: $found"
      result=$(verdict "$found")
    fi
    [[ $result != 0 ]] || say "done; $NAME costs until: scripts/tpu_vm.sh delete --name $NAME"
    [[ $result == again ]] || exit "$result"
    if [[ $(state) == READY ]] && ((++restarts > RESTARTS)); then
      die "the run failed $restarts times on a sound TPU: see its log"
    fi
    sleep "$POLL"
  done
}

check() { # COMMAND: that all it needs is there
  local word
  [[ $NAME && $ZONE ]] || die "give --name and --zone"
  [[ $1 != create && $1 != resume || $TYPE ]] || die "give --type, as v5litepod-16"
  if [[ $1 == install || $1 == resume ]]; then
    [[ $REPO && $REF ]] || die "this is no clone of a repository: give --repo and --ref"
  fi
  [[ $1 == start || $1 == resume ]] || return 0
  ((${#TRAIN[@]})) || die "give a preset and its settings after --"
  for word in "${TRAIN[@]}"; do
    case $word in --workdir* | --distributed) die "$word is given by this script" ;; esac
  done
  case $WORKDIR in
    gs://?*) ;;
    '') die "give --workdir gs://BUCKET/PATH" ;;
    /*) ((SHARED)) || die "--workdir $WORKDIR is on each host's own disk, which goes with" \
      "it: give gs://BUCKET/PATH, or --shared where all hosts mount it" ;;
    *) die "--workdir $WORKDIR: give gs://BUCKET/PATH, or --shared and a whole path" ;;
  esac
}

parse() {
  while (($#)); do
    [[ $1 != --?*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case $1 in
      --) TRAIN=("${@:2}") && return ;;
      --spot | --queued | --shared | --dry-run)
        printf -v "$(tr a-z- A-Z_ <<<"${1#--}")" 1
        ;;
      --name | --zone | --project | --type | --version | --workdir | --repo | --ref | \
        --python | --uv | --heartbeat-port | --poll | --restarts)
        (($# > 1)) || die "$1 needs a value"
        printf -v "$(tr a-z- A-Z_ <<<"${1#--}")" %s "$2" && shift
        ;;
      --create-flag | --ssh-flag)
        (($# > 1)) || die "$1 needs a value"
        if [[ $1 == --ssh-flag ]]; then SSH_FLAGS+=("$2"); else CREATE_FLAGS+=("$2"); fi
        shift
        ;;
      *) die "no option $1: see --help" ;;
    esac
    shift
  done
}

defaults() {
  local home=$1
  NAME=${NAME-} ZONE=${ZONE-} PROJECT=${PROJECT-} TYPE=${TYPE-} VERSION=${VERSION-}
  SPOT=${SPOT:-0} QUEUED=${QUEUED:-0} SHARED=${SHARED:-0} DRY_RUN=${DRY_RUN:-0}
  WORKDIR=${WORKDIR-} PYTHON=${PYTHON:-3.12} UV=${UV:-0.13.7} POLL=${POLL:-20}
  HEARTBEAT_PORT=${HEARTBEAT_PORT:-8476} RESTARTS=${RESTARTS:-10}
  REPO=${REPO:-$(git -C "$home" remote get-url origin 2>/dev/null || true)}
  REF=${REF:-$(git -C "$home" rev-parse HEAD 2>/dev/null || true)}
  TRAIN=() CREATE_FLAGS=() SSH_FLAGS=() ASSUMED=
}

main() {
  ((BASH_VERSINFO[0] >= 5)) || die "this needs bash 5 or newer"
  local command=${1:-help} home
  case $command in
    create | install | start | follow | status | resume | stop | delete) ;;
    help | -h | --help) usage && exit ;;
    *) die "no command $command: see --help" ;;
  esac
  exec 3>&1 # commands of a dry run and logs, also where output is read
  home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  # shellcheck source=scripts/tpu_host.sh
  source "$home/tpu_host.sh"
  defaults "$home"
  parse "${@:2}"
  ((!SPOT)) || QUEUED=1
  check "$command"
  case $command in
    create) make && ready ;;
    follow) on_hosts 0 worker_follow ;;
    status) state && codes ;;
    stop) on_hosts all worker_end 300 ;;
    *) "$command" ;;
  esac
}

main "$@"
