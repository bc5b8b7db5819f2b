# midhop's image. Stages: generate checks that the committed BPF objects are what their sources give (build it with
# --target generate), build makes the static binary, the last one holds that binary and nothing else.
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=scratch

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=devel
ARG COMMIT=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath \
      -ldflags "-s -w -buildid= -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/midhop ./cmd/midhop

FROM build AS generate
RUN apt-get update && apt-get install -y --no-install-recommends clang-19 llvm-19 clang-format-19 libbpf-dev make git
RUN make generate-check

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="midhop" \
      org.opencontainers.image.description="Names the Kubernetes node that hanging connections crossed" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/midhop /midhop
ENTRYPOINT ["/midhop"]
