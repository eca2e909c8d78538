# MinIO of the version that modules/minio pins, for kind; the embedded cluster packs its own binary.
# Context: modules/minio
FROM golang:1.24-bookworm AS build
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o /minio github.com/minio/minio \
    && mkdir -m 1777 /empty-tmp && install -d -o 65532 -g 65532 /empty-data

FROM scratch
COPY --from=build /minio /usr/bin/minio
COPY --from=build /empty-tmp /tmp
COPY --from=build --chown=65532:65532 /empty-data /data
ENV PATH=/usr/bin HOME=/data
USER 65532:65532
ENTRYPOINT ["/usr/bin/minio"]
CMD ["server", "/data"]
