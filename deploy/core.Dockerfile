# The image that jobs run in on a cluster: the core and what it needs, without Dagster.
#
#   docker build -f deploy/core.Dockerfile -t olmo-core .
#   docker build -f deploy/core.Dockerfile -t olmo-core-evals \
#       --build-arg FURTHER="datasets lm_eval[hf] matplotlib transformers wandb" .
#
# Versions are those of environments/main.txt. torch is the build that pip finds: give an index of
# another with --build-arg PIP_EXTRA_INDEX_URL. The run folders' root is mounted; jobs of Kubernetes
# (docs/kubernetes.md), Pyxis and Apptainer (docs/slurm.md) start `python -m olmo_core...`.
FROM python:3.11-slim-bookworm

ARG FURTHER=""
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# A compiler, for torch.compile.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 olmo

WORKDIR /opt/olmo
COPY environments/main.txt environments/main.txt
RUN pip install --constraint environments/main.txt \
    duckdb fastwarc fsspec huggingface-hub isal msgspec numpy psutil pyarrow pyyaml rensa resiliparse \
    safetensors tiktoken tokenizers torch urllib3 xxhash ${FURTHER}

COPY olmo_core olmo_core
ENV PYTHONPATH=/opt/olmo
RUN python -m compileall -q olmo_core

USER olmo
ENTRYPOINT ["python"]
