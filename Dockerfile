# The pipeline and its Ray nodes: docker build --tag geminga:0.1.0 .
# On a GPU cluster: --build-arg TORCH_INDEX=<the index with the CUDA build for its driver>.
FROM python:3.11-slim

# KubeRay's probes call wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home geminga

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0

WORKDIR /app
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --no-deps --index-url "${TORCH_INDEX}" torch

# The dependencies are a layer of their own, so that a change of code does not fetch them again.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir -p platform/geminga \
    && touch platform/geminga/__init__.py \
    && pip install --constraint constraints.txt .

COPY platform platform
COPY jobs jobs
RUN pip install --no-deps --force-reinstall . && mkdir /outputs && chown geminga /outputs

USER 1000
CMD ["geminga", "--help"]
