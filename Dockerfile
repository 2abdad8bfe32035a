# The three images, for people with docker:
#
#   docker build --target evenkeel-operator --tag evenkeel-operator .      (likewise evenkeel-proxy, evenkeel-demo-app)
#
# scripts/images builds the same final stages without docker: it compiles on the host and puts its binaries in the place of
# the stage named "binaries".
ARG RUST_IMAGE=rust:1-slim-bookworm

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
ARG PROFILE=release
# Static, so that the final stages need no file but the binary. With an explicit target the flags stay away from build scripts.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile "$PROFILE" --target "$target" \
      -p evenkeel-operator -p evenkeel-proxy -p evenkeel-demo-app \
 && mkdir /out && cd "target/$target/$PROFILE" && cp evenkeel-operator evenkeel-proxy evenkeel-demo-app /out/

FROM scratch AS binaries
COPY --from=build /out/ /

FROM scratch AS evenkeel-operator
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="evenkeel-operator" \
      org.opencontainers.image.description="Control plane of Evenkeel: load balancers, target groups and autoscaled replicas on Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /evenkeel-operator /evenkeel-operator
USER 65532:65532
ENTRYPOINT ["/evenkeel-operator"]

FROM scratch AS evenkeel-proxy
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="evenkeel-proxy" \
      org.opencontainers.image.description="Data plane of Evenkeel: balances HTTP and TCP over the targets that the operator announces" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /evenkeel-proxy /evenkeel-proxy
USER 65532:65532
ENTRYPOINT ["/evenkeel-proxy"]

FROM scratch AS evenkeel-demo-app
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="evenkeel-demo-app" \
      org.opencontainers.image.description="The web application that Evenkeel's demo and tests balance" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /evenkeel-demo-app /evenkeel-demo-app
USER 65532:65532
ENTRYPOINT ["/evenkeel-demo-app"]
