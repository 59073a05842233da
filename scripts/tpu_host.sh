#!/usr/bin/env bash
# What scripts/tpu_vm.sh does on each host of a TPU VM. It sends these functions there,
# so they use nothing that is not in this file.

worker_install() { # REPO REF PYTHON UV
  local uv=$HOME/.local/bin/uv
  if [[ $("$uv" --version 2>/dev/null) != "uv $4"* ]]; then
    curl -LsSf "https://astral.sh/uv/$4/install.sh" |
      env UV_INSTALL_DIR="$HOME/.local/bin" UV_NO_MODIFY_PATH=1 sh
  fi
  [[ -d ~/vaejax/.git ]] || git clone --quiet "$1" ~/vaejax
  cd ~/vaejax || return
  git remote set-url origin "$1"
  git fetch --quiet --tags --force origin
  git checkout --quiet --detach \
    "$(git rev-parse --quiet --verify "refs/remotes/origin/$2" || echo "$2")"
  "$uv" venv --quiet --allow-existing --python "$3" .venv
  "$uv" pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[tpu,gcs]'
  echo "vaejax-installed: $(git rev-parse HEAD)" \
    "$("$uv" pip freeze --python .venv/bin/python | cksum)"
}

worker_run() { # the process id of the run, where it runs
  local pid
  pid=$(cat ~/vaejax-run/pid 2>/dev/null) || return 0
  # After a reboot the number may be another's.
  if grep -qs train.py "/proc/$pid/cmdline"; then echo "$pid"; fi
}

worker_holders() { # the run, and all processes that hold a TPU
  local found
  found=$(sudo find /proc/[0-9]*/fd \
    \( -lname '/dev/accel*' -o -lname '/dev/vfio/[0-9]*' \) 2>/dev/null) || true
  { worker_run && cut -d/ -f3 <<<"$found"; } | sed '/^$/d' | sort -u
}

worker_end() { # SECONDS in which a run may save
  local pids second
  mapfile -t pids < <(worker_holders)
  ((${#pids[@]})) || return 0
  echo "ending process ${pids[*]}"
  sudo kill -TERM "${pids[@]}" || true
  for ((second = 0; second < $1; second++)); do
    sleep 1
    mapfile -t pids < <(worker_holders)
    ((${#pids[@]})) || return 0
  done
  echo "killing process ${pids[*]}"
  sudo kill -KILL "${pids[@]}" || true
}

worker_start() { # PORT, and the arguments of train.py
  # shellcheck disable=SC2016
  local run='"$HOME/vaejax/.venv/bin/python" -u "$HOME/vaejax/scripts/train.py" "$@" &
    echo $! >pid.new; mv pid.new pid; wait $! && code=0 || code=$?
    echo $code >code.new; mv code.new code'
  sudo rm -f /tmp/libtpu_lockfile
  sudo sh -c 'echo always >/sys/kernel/mm/transparent_hugepage/enabled' || true
  unset "${!MEGASCALE_@}" # of a slice that was preempted
  export JAX_PLATFORMS=tpu JAX_COORDINATOR_PORT=$1
  mkdir -p ~/vaejax-run
  cd ~/vaejax-run || return
  rm -f pid code
  [[ ! -e log ]] || mv log log.before
  setsid nohup bash -c "$run" run "${@:2}" </dev/null >log 2>&1 &
  until [[ -e pid ]]; do sleep 0.1; done
  echo "started process $(cat pid)"
}

worker_code() { # the exit code of the run, or `running`, or `none` where it was killed
  local code=none
  if [[ -e ~/vaejax-run/code ]]; then
    code=$(cat ~/vaejax-run/code)
  elif [[ -n $(worker_run) ]]; then
    code=running
  fi
  echo "vaejax-run: $code"
}

worker_follow() { # shows the log until the run ends, and ends with its code
  local code pid
  pid=$(worker_run)
  if [[ $pid ]]; then
    tail -n 200 -F --pid="$pid" ~/vaejax-run/log
  else
    tail -n 200 ~/vaejax-run/log
  fi
  sleep 1 # the code is written after the process has ended
  code=$(worker_code)
  [[ $code =~ [0-9]+$ ]] && exit "${BASH_REMATCH[0]}"
  echo "$code"
  exit 1
}
