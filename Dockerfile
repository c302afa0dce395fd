# syntax=docker/dockerfile:1
# alloyd in a container: docker build -t alloy . ; docs/CONTAINERS.md tells how to run it.

FROM debian:12 AS build
WORKDIR /src
COPY . .
RUN scripts/package

FROM debian:12-slim
# A number that files on volumes keep, and that Kubernetes can tell is not root.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/alloy --no-create-home --shell /usr/sbin/nologin alloy
RUN --mount=type=bind,from=build,source=/src/build/package,target=/package \
    apt-get update && apt-get install -y --no-install-recommends ca-certificates /package/alloyd_*.deb && \
    rm -rf /var/lib/apt/lists/*
COPY --chown=root:alloy --chmod=0640 packaging/container/alloy.ini /etc/alloy/alloy.ini

USER 10001:10001
# The journal must outlive the container. Nothing else is written, so the root may be read-only.
VOLUME /var/lib/alloy
EXPOSE 8080
# alloyd itself is process 1: it takes TERM, INT, HUP and USR2, and starts no other process that somebody would have to reap.
ENTRYPOINT ["alloyd"]
HEALTHCHECK --interval=5s --start-period=30s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
