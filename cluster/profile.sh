# The environment of a node, sourced by its ~/.bashrc and ~/.profile: by every command of ray up, exec, submit, attach.

. "$HOME/venv/bin/activate"
export RAY_AUTH_MODE=token  # with ~/.ray/auth_token, the same on all machines
export RAY_USAGE_STATS_ENABLED=0
export RAY_JOB_STOP_SIGNAL=SIGINT  # `ray job stop` is a Ctrl-C: the sweep writes its tables and copies them away
export RAY_JOB_STOP_WAIT_TIME_S=600
export PYTHONPYCACHEPREFIX="$HOME/.cache/pycache"  # Ray compares the copied project with its source: nothing beside it

# SSH takes along variables named LC_*. So a key gets here without a file, and Ray and its jobs inherit it.
if [ -n "${LC_WANDB_API_KEY:-}" ]; then
  export WANDB_API_KEY="$LC_WANDB_API_KEY"
fi
unset LC_WANDB_API_KEY
