# The exact environment: Python of the tests, packages of constraints.txt. Its install step is the Makefile's, so that the tests cover it.
#
#   docker build -t tune_accent .
#   docker run --rm -it -v "$PWD/ray_results:/app/ray_results" -v "$PWD/data:/app/data" tune_accent python -m tune_accent.search search_spaces/lora.yaml
#
# With GPUs: `docker run --gpus all ...`; the torch wheel of the pins brings CUDA's libraries on x86-64 Linux, and the host brings the driver.
FROM python:3.11.7-slim-bookworm

RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt Makefile README.md ./
COPY tune_accent tune_accent
RUN make setup PYTHON=python3.11

COPY . .
ENV PATH=/app/.venv/bin:$PATH OMP_NUM_THREADS=1
CMD ["make", "search"]
