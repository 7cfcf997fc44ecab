# syntax=docker/dockerfile:1
# The server in a container. Build: docker build -t citekite .  How to run it is in docs/deploy.md.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/citekite
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/citekite/bin/pip install '.[office]'

FROM python:3.11-slim-bookworm
# A user of its own, with a number that another machine's user can be mapped to.
RUN useradd --system --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin citekite \
    && install --directory --owner citekite --group citekite --mode 0700 /data
COPY --from=build /opt/citekite /opt/citekite
# All that is kept lies in /data: the embedded database, keys, uploads, jobs, reports; and citekite.toml, if there is one.
ENV PATH=/opt/citekite/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CITEKITE_URI=/data/citekite.db \
    CITEKITE_DATA_DIR=/data/serve \
    CITEKITE_HOST=0.0.0.0 \
    CITEKITE_PORT=8080
USER citekite
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["citekite"]
CMD ["serve"]
