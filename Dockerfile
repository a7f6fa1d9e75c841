# vagram_ray on a laptop or a workstation: the versions of cluster/requirements.lock, which the cluster's image has too.
#
#     docker build -t vagram-ray .
#     mkdir -p results
#     docker run --rm -it --shm-size 2g --user "$(id -u):$(id -g)" -e HOME=/tmp -v "$PWD/results:/work/results" \
#         vagram-ray vagram-sweep distractors
#
# With an NVIDIA GPU and its container toolkit: add `--gpus all`. x86-64 only, as the lock is.
FROM python:3.11-slim-bookworm AS dependencies

# EGL is for films of MuJoCo environments (vagram-play), git for the devcontainer; the compiler is for torch.compile.
# The system's packages are not pinned: Debian removes old versions, and a pinned build would fail.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git libegl1 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

COPY cluster/requirements.lock /tmp/requirements.lock
# The lock is complete, so nothing else is resolved.
RUN pip install --no-cache-dir --no-deps --requirement /tmp/requirements.lock

FROM dependencies

WORKDIR /tmp/source
COPY . .
RUN pip install --no-cache-dir --no-deps . && useradd --uid 1000 --create-home --shell /bin/bash person \
    && mkdir -p /work/results && chown -R person /work

USER 1000
WORKDIR /work
CMD ["vagram-sweep"]
