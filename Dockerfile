# The pipeline and its Ray nodes, code and models included. Two variants (BuildKit):
#   docker build --target cpu --build-arg REVISION=$(git rev-parse HEAD) --tag geminga:0.1.0 .
#   docker build --target gpu --build-arg REVISION=$(git rev-parse HEAD) --tag geminga:0.1.0-gpu .
# Both take the torch that constraints.txt names: 'cpu' from CPU_INDEX, 'gpu' with its CUDA libraries
# from GPU_INDEX. To be sure of the base, name it by digest:
#   --build-arg PYTHON=python:3.11.13-slim-bookworm@sha256:...
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS base
# KubeRay's job script calls wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home geminga
# The root file system may be read-only: whatever is written besides results goes to /tmp.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_TMPDIR=/tmp \
    RAY_USAGE_STATS_ENABLED=0 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config \
    MLFLOW_DISABLE_TELEMETRY=true

# What is installed does not change with the code, so a change of code fetches nothing again.
FROM ${PYTHON} AS sources
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir -p platform/geminga && touch platform/geminga/__init__.py

# torch goes first and without its dependencies, so that its own index is asked for nothing else.
FROM sources AS dependencies-cpu
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN /venv/bin/pip install --constraint constraints.txt --no-deps --index-url "${CPU_INDEX}" torch
RUN /venv/bin/pip install --constraint constraints.txt . \
    && /venv/bin/pip uninstall --yes geminga

# torch itself pins the CUDA libraries that it was built with.
FROM sources AS dependencies-gpu
ARG GPU_INDEX=https://pypi.org/simple
RUN /venv/bin/pip install --constraint constraints.txt --index-url "${GPU_INDEX}" torch
RUN /venv/bin/pip install --constraint constraints.txt . \
    && /venv/bin/pip uninstall --yes geminga

FROM sources AS package
COPY platform platform
RUN /venv/bin/pip wheel --no-deps --wheel-dir /wheels .

FROM base AS gpu
COPY --from=dependencies-gpu /venv /venv
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
WORKDIR /app
COPY jobs jobs
# MLflow is told it: an image holds no checkout.
ARG REVISION
ENV GEMINGA_REVISION=${REVISION}
USER 1000
CMD ["geminga", "--help"]

FROM base AS cpu
COPY --from=dependencies-cpu /venv /venv
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
WORKDIR /app
COPY jobs jobs
# MLflow is told it: an image holds no checkout.
ARG REVISION
ENV GEMINGA_REVISION=${REVISION}
USER 1000
CMD ["geminga", "--help"]
