# The gateway as an image: some 80 MB above python:slim, no root, and a file system that may be read-only.
#
#   docker build -t spillgate .
#   docker build -t spillgate --build-arg EXTRA='[litellm]' --build-arg LOCK=requirements-litellm.lock .
#
# `deploy/rehearse` runs the steps of the first stage, and the result, without an engine.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG EXTRA=""
ARG LOCK=requirements.lock
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1
WORKDIR /build
RUN pip install --no-cache-dir uv==0.13.9
COPY requirements.lock requirements-litellm.lock ./
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY gateway gateway
# The lock constrains by version and by hash: the build's own tools too, which stay in this stage.
RUN uv build --wheel --build-constraints requirements.lock --require-hashes --out-dir dist . \
    && uv venv /opt/spillgate \
    && uv pip install --python /opt/spillgate/bin/python --constraints "${LOCK}" "$(echo dist/*.whl)${EXTRA}"

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="spillgate" \
      org.opencontainers.image.description="One OpenAI-compatible endpoint over many capacity-limited GPU clouds" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/spillgate /opt/spillgate
ENV PATH=/opt/spillgate/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 PORT=8080 SPILLGATE_CONFIG=/etc/spillgate
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["spillgate", "healthcheck"]
ENTRYPOINT ["spillgate"]
CMD ["serve"]
