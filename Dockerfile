# One image for every service, the agent and the command line; the first argument names the module:
#   keyreeve_ca run --config FILE | keyreeve_membership run ... | keyreeve_credentials run ... | keyreeve.cli cert list
# Base images are arguments: any with Python 3.11 or newer will do. Pin yours by digest.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY . .
RUN python3 -m venv /build && PYTHON=/build/bin/python tools/image tree /image

FROM ${BASE}
LABEL org.opencontainers.image.title="Keyreeve" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
ENV PYTHONPATH=/opt/keyreeve PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["python3", "-P", "-m"]
