# ganatomy in a container, on the CPU:            docker build -t ganatomy .
# With a GPU, on an image that has CUDA's driver libraries:
#   docker build -t ganatomy --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --gpus all -v "$PWD:/work" ganatomy train wgan-vgg --data CT --out runs/w
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN if ! command -v pip >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    fi && python3 -m venv /opt/ganatomy
ENV PATH=/opt/ganatomy/bin:$PATH

# What changes rarely comes first, so that a change of the code does not install everything again.
COPY constraints.txt requirements.lock /tmp/
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} --extra-index-url https://pypi.org/simple -c /tmp/constraints.txt torch \
    && grep -v -E '^(nvidia-|triton|cuda-|torch==)' /tmp/requirements.lock > /tmp/others.txt \
    && pip install --no-cache-dir --no-deps -r /tmp/others.txt

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir --no-deps /src

# Prepared cases and the secret of pseudonyms belong to the user of the container, not to the image.
RUN useradd --create-home ganatomy
USER ganatomy
WORKDIR /work
ENTRYPOINT ["ganatomy"]
CMD ["--help"]
