# The image of the code server, the daemon and the web server: the graph, without torch.
#
#   docker build -f deploy/orchestrator.Dockerfile -t olmo-orchestrator .
#   docker run … olmo-orchestrator dagster-webserver --host 0.0.0.0 --port 3000 \
#       --workspace deploy/workspace.yaml
#
# All three get /etc/olmo/environment's variables (deploy/environment.example), the root of results
# and DAGSTER_HOME mounted. It submits jobs and follows them; they run elsewhere, so the engine
# `local` is of no use in it. Listen on more than loopback only behind a proxy that asks who it is.
FROM python:3.11-slim-bookworm

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# Slurm's commands; slurm.conf and munge's socket are mounted where Slurm is used.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git slurm-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 olmo

WORKDIR /opt/olmo
COPY environments/eval-data.txt environments/main.txt environments/
RUN pip install --constraint environments/main.txt \
    dagster dagster-postgres dagster-webserver duckdb fastwarc fsspec huggingface-hub isal kubernetes \
    matplotlib msgspec numpy psutil pyarrow pyyaml rensa resiliparse rich safetensors tiktoken \
    tokenizers typer urllib3 xxhash

COPY assets assets
COPY deploy deploy
COPY olmo_core olmo_core
COPY pipelines pipelines
COPY dagster.yaml workspace.yaml ./
ENV PYTHONPATH=/opt/olmo
RUN python -m compileall -q assets olmo_core pipelines

USER olmo
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4266", \
     "--module-name", "pipelines.definitions", "--working-directory", "/opt/olmo"]
