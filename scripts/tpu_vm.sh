#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU VM, and goes on after a preemption:
#
#   scripts/tpu_vm.sh resume --name a --zone us-central1-a --type v5litepod-16 --spot \
#       --share gs://BUCKET --workdir runs/a -- vae --dataset mnist --epochs 100
#
# docs/clusters.md takes a first hour step by step.

set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/tpu_vm.sh COMMAND [OPTIONS] [-- PRESET TRAIN_ARGUMENTS...]

Commands:
  create    make the TPU VM, and wait until it is ready
  install   copy the last commit to all hosts, and install it
  start     end what holds the TPU, and start training on all hosts
  follow    show the log of host 0 until the run ends, and exit with its code
  status    show the state of the TPU and of the run on each host
  resume    all of the above, and again after each preemption, until the run is done
  stop      end the run on all hosts; it saves first
  delete    delete the TPU VM

Options:
  --name NAME         of the TPU VM
  --zone ZONE         as us-central1-a
  --project PROJECT   by default gcloud's
  --type TYPE         as v5litepod-16
  --version VERSION   of the TPU's software; by default the one for the type
  --spot              cheaper, and may be preempted; implies --queued
  --queued            wait in Google's queue for a VM
  --share PLACE       what all hosts mount: gs://BUCKET, or SERVER:/EXPORT of NFS
  --workdir PATH      of the run, within the share
  --create-flag FLAG  one more flag for gcloud's create; may be repeated
  --ssh-flag FLAG     one more flag for gcloud's ssh and scp; may be repeated
  --poll SECONDS      between looks at the TPU; by default 20
  --dry-run           print the commands instead
END
}

die() {
  echo "error: $*" >&2
  exit 2
}

say() { echo "tpu_vm: $*" >&2; }

quoted() { # words for a shell, on one line
  local word line=
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

run() { # without stdin, which ssh would read to its end
  if ((DRY_RUN)); then quoted "$@" >&3; else "$@" </dev/null; fi
}

tpus() { # GROUP VERB ARGUMENTS...
  local place=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
  run gcloud compute tpus "$1" "$2" "${@:3}" "${place[@]}" --quiet
}

# On one host of several alone, JAX would wait for the others for ever: all but `follow`
# is for all.
on_hosts() { # all, or a number; a command
  tpus tpu-vm ssh "$NAME" "--worker=$1" "${SSH_FLAGS[@]}" "--command=$2"
}

host_does() { # all, or a number; a verb of tpu_host.sh and its arguments
  on_hosts "$1" "bash vaejax/scripts/tpu_host.sh $(quoted "${@:2}")"
}

software() { # for a type, by Google's table
  case $TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) die "--type $TYPE: give its software by --version" ;;
  esac
}

make() {
  local asked version
  version=${VERSION:-$(software)}
  asked=("--accelerator-type=$TYPE" "${CREATE_FLAGS[@]}")
  TPU=READY FAILURES=0
  if ((QUEUED)); then
    ((!SPOT)) || asked+=(--spot)
    tpus queued-resources create "$NAME" "--node-id=$NAME" \
      "--runtime-version=$version" "${asked[@]}"
  else
    tpus tpu-vm create "$NAME" "--version=$version" "${asked[@]}"
  fi
}

delete() {
  TPU=
  if ((QUEUED)); then # and the TPU with its place in the queue
    tpus queued-resources delete "$NAME" --force
  else
    tpus tpu-vm delete "$NAME"
  fi
}

look() { # GROUP FIELD: what it is; nothing where it is not there
  local error
  error=$(mktemp)
  tpus "$1" describe "$NAME" "--format=value($2)" 2>"$error" ||
    grep -qi 'not[_ ]found' "$error" || { cat "$error" >&2 && echo UNKNOWN; }
  rm -f "$error"
}

state() { # of the TPU, or else of its place in the queue
  local found
  found=$(look tpu-vm state)
  ((!DRY_RUN)) || found=$TPU
  [[ $found ]] || ((!QUEUED)) || found=$(look queued-resources state.state)
  echo "$found"
}

ready() { # waits for the TPU; one that is absent or was preempted is made anew
  local now
  while now=$(state) && [[ $now != READY ]]; do
    case $now in
      '') say "making $NAME" && make || exit ;;
      PREEMPTED | TERMINATED | SUSPENDED)
        say "$NAME was preempted" && delete || exit
        ;;
      FAILED | STOPPED) die "$NAME is $now: gcloud's describe says why; delete it" ;;
      *) say "$NAME is $now: waiting" && sleep "$POLL" ;;
    esac
  done
}

install() { # the same commit on all hosts, which need no access to a repository
  local archive=${TMPDIR:-/tmp}/vaejax-$NAME.tar.gz unpack
  unpack="[ ! -d vaejax ] || bash vaejax/scripts/tpu_host.sh stop && rm -rf vaejax"
  unpack+=" && mkdir vaejax && tar -xzf vaejax.tar.gz -C vaejax"
  git -C "$ROOT" diff --quiet HEAD || say "changes that are not committed stay here"
  run git -C "$ROOT" archive --format=tar.gz "--output=$archive" HEAD &&
    tpus tpu-vm scp "$archive" "$NAME:vaejax.tar.gz" --worker=all "${SSH_FLAGS[@]}" &&
    on_hosts all "$unpack" &&
    host_does all install "$SHARE"
}

start() { # once all hosts have ended what was before
  host_does all stop &&
    host_does all start "${TRAIN[@]}" --workdir "/mnt/share/$WORKDIR" --distributed
}

follow() { host_does 0 follow; }

stop() { host_does all stop; }

runs() { # a word for each host, as tpu_host.sh gives them
  local ask="bash vaejax/scripts/tpu_host.sh status"
  on_hosts all "if [ -d vaejax ]; then $ask; else echo vaejax-run: none; fi" |
    sed -n 's/^vaejax-run: //p' | tr '\n' ' ' || echo none
}

status() {
  local tpu found
  tpu=$(state)
  found=$(runs)
  ((DRY_RUN)) || echo "$NAME is ${tpu:-absent}; its runs: $found"
}

verdict() { # over all hosts: `running`, `stopped`, `again`, or an exit code
  local word worst=0
  for word in $(runs); do
    case $word in
      running | stopped) worst=$word && break ;;
      none | 143) worst=again && break ;; # a host is gone, or goes
      0) ;;
      1 | 2) worst=$word ;; # an error that would come again, and may have
      *) [[ $worst != 0 ]] || worst=again ;; # ended the other hosts in this way
    esac
  done
  echo "$worst"
}

resume() {
  local now
  while ready; do
    # What runs already is not started again: only this script had ended.
    if [[ $(verdict) == running ]] || { install && start; }; then
      follow || true # that may be the connection's end, so the hosts are asked
      now=$(verdict)
      case $now in
        0) say "done: $NAME costs money until it is deleted" && return ;;
        stopped) say "stopped: the same command goes on" && return 143 ;;
        1 | 2) return "$now" ;;
        running) FAILURES=0 ;;
      esac
    fi
    ((FAILURES++ < 3)) || die "the run failed 4 times on this TPU: see its log by follow"
    sleep "$POLL"
  done
}

check() { # COMMAND: that what it needs is there, and is what it should be
  local word
  [[ $NAME =~ ^[a-z][a-z0-9-]*$ ]] || die "give --name, in lower-case letters and digits"
  [[ $ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || die "give --zone, as us-central1-a"
  [[ $PROJECT =~ ^[a-z0-9.:-]*$ ]] || die "--project $PROJECT: this is no project's id"
  [[ $POLL =~ ^[0-9]+$ ]] || die "--poll $POLL: give seconds"
  if [[ $1 == create || $1 == resume ]]; then
    [[ $TYPE =~ ^[a-z0-9]+-[0-9]+$ ]] || die "give --type, as v5litepod-16"
    [[ $VERSION ]] || software >/dev/null
  fi
  if [[ $1 == install || $1 == resume ]]; then
    [[ $SHARE =~ ^(gs://[a-z0-9._-]+|[A-Za-z0-9.-]+:/[^ ]*)$ ]] ||
      die "give --share, as gs://BUCKET or SERVER:/EXPORT: the disk of a VM is lost with it"
  fi
  [[ $1 == start || $1 == resume ]] || return 0
  ((${#TRAIN[@]})) || die "give a preset and its settings after --"
  for word in "${TRAIN[@]}"; do
    case $word in --workdir* | --distributed) die "$word is given by this script" ;; esac
  done
  [[ $WORKDIR && $WORKDIR != /* && $WORKDIR != *:* ]] ||
    die "give --workdir as a path within the share, as runs/a"
}

parse() {
  while (($#)); do
    [[ $1 != --?*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case $1 in
      --) TRAIN=("${@:2}") && return ;;
      --spot) SPOT=1 QUEUED=1 && shift && continue ;;
      --queued) QUEUED=1 && shift && continue ;;
      --dry-run) DRY_RUN=1 && shift && continue ;;
    esac
    (($# > 1)) || die "$1 needs a value, or is no option: see --help"
    case $1 in
      --name) NAME=$2 ;;
      --zone) ZONE=$2 ;;
      --project) PROJECT=$2 ;;
      --type) TYPE=$2 ;;
      --version) VERSION=$2 ;;
      --share) SHARE=$2 ;;
      --workdir) WORKDIR=$2 ;;
      --create-flag) CREATE_FLAGS+=("$2") ;;
      --ssh-flag) SSH_FLAGS+=("$2") ;;
      --poll) POLL=$2 ;;
      *) die "no option $1: see --help" ;;
    esac
    shift 2
  done
}

main() {
  case ${1:-help} in
    create | install | start | follow | status | resume | stop | delete) ;;
    help | -h | --help) usage && exit ;;
    *) die "no command $1: see --help" ;;
  esac
  NAME='' ZONE='' PROJECT='' TYPE='' VERSION='' SHARE='' WORKDIR=''
  SPOT=0 QUEUED=0 DRY_RUN=0 POLL=20 TRAIN=() CREATE_FLAGS=() SSH_FLAGS=()
  TPU='' # its state in a dry run
  FAILURES=0 # of the run on this TPU
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  parse "${@:2}"
  check "$1"
  exec 3>&1 # where a dry run prints, also when output is read
  case $1 in
    create)
      make
      ready
      ;;
    *) "$1" ;;
  esac
}

((BASH_VERSINFO[0] >= 5)) || die "this needs bash 5 or newer"
main "$@"
