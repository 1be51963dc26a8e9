# The image with everything in it, for those who want no set-up: both environments and the checkout.
#
#   docker build -f deploy/all-in-one.Dockerfile -t olmo .
#   docker run --rm --init -v olmo-runs:/opt/olmo/runs olmo make demo
#   docker run --rm --init -v olmo-runs:/opt/olmo/runs -p 127.0.0.1:3000:3000 olmo \
#       olmo ui --host 0.0.0.0
#
# torch is the build that pip finds: give an index of another with --build-arg PIP_EXTRA_INDEX_URL.
# Results stay in the volume. Jobs end with the container, and resume in the next.
# This Python serves both environments (CONTRIBUTING.md).
FROM python:3.11-slim-bookworm

ARG PIP_EXTRA_INDEX_URL=""

# A compiler, for torch.compile.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 olmo \
    && install -d -o olmo -g olmo /opt/olmo /opt/olmo/runs

USER olmo
WORKDIR /opt/olmo

# Before the rest of the checkout, so that an edit there sets nothing up anew.
COPY --chown=olmo:olmo LICENSE Makefile pyproject.toml ./
COPY --chown=olmo:olmo environments environments
RUN make setup && rm -rf ~/.cache

# With what git tracks and nothing else (.dockerignore), so that results name their commit.
COPY --chown=olmo:olmo . .
ENV PATH=/opt/olmo/.venv/bin:$PATH
RUN python -m compileall -q assets olmo_core pipelines

CMD ["make", "demo"]
