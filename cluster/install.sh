#!/usr/bin/env bash
# Puts Python, this project and its pinned dependencies on a node, in ~/venv. Runs again without harm, and quickly.
#
# All cluster files and the Dockerfile use it. Needs curl and a network; PyTorch's wheels need an NVIDIA driver of
# version 580 or later to use a GPU.
set -euo pipefail

UV_VERSION=0.13.9
PYTHON_VERSION=3.11.18

project=$(cd "$(dirname "$0")/.." && pwd)
venv="$HOME/venv"
export PATH="$HOME/.local/bin:$PATH"

if ! uv --version 2>/dev/null | grep -q "^uv $UV_VERSION\b"; then
  curl --proto '=https' --tlsv1.2 -LsSf "https://astral.sh/uv/$UV_VERSION/install.sh" | env UV_NO_MODIFY_PATH=1 sh
fi

if [ "$("$venv/bin/python" --version 2>/dev/null)" != "Python $PYTHON_VERSION" ]; then
  uv venv --clear --python "$PYTHON_VERSION" "$venv"
fi
# The lock is complete, so nothing else is resolved; the project itself stays where it was copied to.
uv pip install --python "$venv/bin/python" --no-deps --requirements "$project/cluster/requirements.lock" \
  --editable "$project"

for file in "$HOME/.bashrc" "$HOME/.profile"; do
  grep -qsF "$project/cluster/profile.sh" "$file" || echo ". \"$project/cluster/profile.sh\"" >>"$file"
done
# New tmux sessions take the key from who opens them, not from the session that came first.
tmux="$HOME/.tmux.conf"
grep -qsF WANDB_API_KEY "$tmux" || echo 'set-option -ga update-environment " WANDB_API_KEY"' >>"$tmux"
