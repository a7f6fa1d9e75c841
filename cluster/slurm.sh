#!/usr/bin/env bash
# A sweep in a Slurm allocation: Ray on its nodes, and the sweep's own command.
#
#     sbatch --nodes=2 --gpus-per-node=4 cluster/slurm.sh tune_configs/distractors.py --scale paper --storage /shared/results
#
# Options of sbatch go before the script; they win over those below. What follows the script is what
# `python -m vagram_ray.sweep` takes. Results have to lie in a folder that all nodes see. Before the time limit the sweep
# stops in order, the job is put back into the queue, and its next start goes on. `scancel --batch
# --signal=TERM JOBID` stops it in order for good; plain `scancel` ends it as a kill does.
#SBATCH --job-name=vagram_ray
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=vagram_ray-%j.out
#SBATCH --signal=B:USR1@300
set -euo pipefail

[ -n "${SLURM_JOB_ID:-}" ] || { echo "Error: this is a batch script of Slurm: sbatch cluster/slurm.sh SWEEP_FILE [OPTIONS]" >&2; exit 2; }
[ $# -gt 0 ] || { echo "Error: no sweep is named: sbatch cluster/slurm.sh SWEEP_FILE [OPTIONS]" >&2; exit 2; }
cd "${SLURM_SUBMIT_DIR:-.}"

nodes=$SLURM_JOB_NUM_NODES
head=$SLURMD_NODENAME  # a batch script runs on the first node
host=${HEAD_IP:-$(python -c 'import ray; print(ray.util.get_node_ip_address())')}  # HEAD_IP: where nodes have several networks
address=$host:$((20000 + SLURM_JOB_ID % 10000))  # jobs that share a node do not share a port
export RAY_TMPDIR=/tmp/vr-$SLURM_JOB_ID  # of each node, and short: paths of sockets have at most 107 letters
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}  # Slurm 22.05 to 23.02: `srun` does not take it over by itself
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}  # who lacks ~/.ray/auth_token cannot talk to this Ray
[ "$RAY_AUTH_MODE" != token ] || [ -n "${RAY_AUTH_TOKEN:-}" ] || [ -f "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" ] ||
    ray get-auth-token --generate > /dev/null

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
own=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --disable-usage-stats)
[ -z "${SLURM_GPUS_ON_NODE:-}" ] || own+=(--num-gpus="$SLURM_GPUS_ON_NODE")
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --block --node-ip-address="$host" --port="${address##*:}" --include-dashboard=false \
    "${own[@]}" &
if [ "$nodes" -gt 1 ]; then
    srun --overlap --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" \
        ray start --block --address="$address" "${own[@]}" &
fi

# A sweep plans for the nodes that are there.
python - "$address" "$nodes" <<'PYTHON'
import socket, sys, time
import ray
address, nodes, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + 300
host, port = address.rsplit(":", 1)
alive = 0
while alive < nodes:
    if time.monotonic() > deadline:
        sys.exit(f"Error: {alive} of {nodes} nodes have joined Ray at {address} in 5 minutes; what they said stands above.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        alive = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, OSError, RuntimeError):
        pass
    time.sleep(1)
PYTHON

python -m vagram_ray.sweep "$@" --address "$address" &
sweep=$! again=
trap 'again=yes; kill -TERM "$sweep" 2> /dev/null || true' USR1  # the time limit is near
trap 'kill -TERM "$sweep" 2> /dev/null || true' TERM INT
while status=0; wait "$sweep" || status=$?; kill -0 "$sweep" 2> /dev/null; do :; done  # a trap ends `wait`, too

if [ -n "$again" ] && [ "$status" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
