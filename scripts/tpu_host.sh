#!/usr/bin/env bash
# What scripts/tpu_vm.sh has each host of a TPU VM do, from its copy of this repository.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SHARE=/mnt/share # a disk of a VM vanishes with it; this does not
ENV=$HOME/vaejax-env
RUN=$HOME/vaejax-run
PREEMPTED=143 # the trainer was told to stop, by SIGTERM, and has saved

die() {
  echo "error: $*" >&2
  exit 2
}

apt_install() { # a VM that has just started still upgrades itself, which locks apt
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y "$1" >/dev/null
}

mount_share() { # gs://BUCKET or SERVER:/EXPORT
  mountpoint -q "$SHARE" && return
  sudo mkdir -p "$SHARE"
  if [[ $1 != gs://* ]]; then
    command -v mount.nfs >/dev/null || apt_install nfs-common
    sudo mount -t nfs "$1" "$SHARE"
    return
  fi
  if ! command -v gcsfuse >/dev/null; then
    curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg |
      sudo tee /usr/share/keyrings/gcsfuse.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/gcsfuse.asc]" \
      "https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    apt_install gcsfuse
  fi
  sudo chown "$(id -un)" "$SHARE"
  # Hosts see at once what the others write, and checkpoints, which are folders, can be
  # renamed in buckets without a hierarchical namespace, too.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 \
    --metadata-cache-negative-ttl-secs=0 --rename-dir-limit=100000 \
    "${1#gs://}" "$SHARE"
}

install() { # SHARE
  mount_share "$1"
  # The Python of the image may be too old for JAX, so uv brings one; the versions in
  # constraints.txt are the same on all hosts.
  local uv=$HOME/.local/bin/uv
  [[ -x $uv ]] || curl -fsSL https://astral.sh/uv/install.sh |
    env UV_INSTALL_DIR="${uv%/*}" UV_NO_MODIFY_PATH=1 sh
  "$uv" venv --quiet --allow-existing --python 3.12 "$ENV"
  "$uv" pip install --quiet --python "$ENV/bin/python" \
    -c "$HERE/constraints.txt" -e "${HERE}[tpu]"
}

running() { # the process of `supervise`; after a reboot its number may be another's
  local pid
  pid=$(cat "$RUN/pid" 2>/dev/null) &&
    grep -qs tpu_host.sh "/proc/$pid/cmdline" && echo "$pid"
}

processes() { # of the run, and all that hold the TPU, which only one at a time can
  local pid
  if pid=$(running); then pgrep -g "$pid" || true; fi
  sudo find /proc/[0-9]*/fd \( -lname '/dev/accel*' -o -lname '/dev/vfio/[0-9]*' \) \
    2>/dev/null | cut -d/ -f3 | sort -u
}

stop() { # the run, which saves first, and whatever else holds the TPU
  local pids seconds=120
  if running >/dev/null; then touch "$RUN/stopped"; fi
  mapfile -t pids < <(processes)
  ((${#pids[@]})) || return 0
  echo "ending ${pids[*]}"
  sudo kill -TERM "${pids[@]}" || true
  while mapfile -t pids < <(processes) && ((${#pids[@]})); do
    if ((seconds-- == 0)); then
      echo "killing ${pids[*]}"
      sudo kill -KILL "${pids[@]}" || true
    fi
    sleep 1
  done
}

start() { # the arguments of train.py
  mountpoint -q "$SHARE" || die "nothing is mounted at $SHARE: install first"
  ! running >/dev/null || die "there is a run already: stop it first"
  # Left by a process that was killed, it would keep the TPU from all others.
  sudo rm -f /tmp/libtpu_lockfile
  # libtpu wants transparent hugepages on v5e and later.
  echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null || true
  # Of a slice that was preempted, these would send JAX to hosts that are no more.
  unset "${!MEGASCALE_@}"
  export JAX_PLATFORMS=tpu         # else a broken TPU would mean training on the CPU
  export JAX_COORDINATOR_PORT=8476 # JAX's own choice is behind Google's firewall
  export JAX_COMPILATION_CACHE_DIR=$SHARE/jax-cache
  export TFDS_DATA_DIR=$SHARE/tensorflow_datasets
  mkdir -p "$RUN"
  rm -f "$RUN"/{code,pid,stopped}
  # In a session of its own the run outlives this connection.
  setsid bash "${BASH_SOURCE[0]}" supervise "$@" </dev/null >"$RUN/log" 2>&1 &
  until [[ -e $RUN/pid ]]; do sleep 0.1; done
}

supervise() { # trains, and again each time that a signal to any host stopped all
  local code=$PREEMPTED told=
  trap 'told=1' TERM # by `stop`, or as the machine shuts down
  echo $$ >"$RUN/pid.new"
  mv "$RUN/pid.new" "$RUN/pid"
  while [[ $code == "$PREEMPTED" && ! $told ]]; do
    "$ENV/bin/python" -u "$HERE/scripts/train.py" "$@" && code=0 || code=$?
    [[ $code != "$PREEMPTED" || $told ]] || sleep 10 || true
  done
  echo "$code" >"$RUN/code.new"
  mv "$RUN/code.new" "$RUN/code"
}

status() { # `running`, `stopped` by us, the exit code, or `none`
  local word=none
  if running >/dev/null; then
    word=running
  elif [[ -e $RUN/stopped ]]; then
    word=stopped
  elif [[ -e $RUN/code ]]; then
    word=$(cat "$RUN/code")
  fi
  echo "vaejax-run: $word"
}

follow() { # the log until the run ends; its code
  local pid
  if pid=$(running); then
    tail -n 100 -F --pid="$pid" "$RUN/log" 2>/dev/null
  else
    tail -n 100 "$RUN/log"
  fi
  exit "$(cat "$RUN/code" 2>/dev/null || echo 1)"
}

"$@"
