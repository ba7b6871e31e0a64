# mkdir -p build; docker build -t namsg-mx . && docker run --rm -v "$PWD/build:/namsg-mx/build" namsg-mx
# podman takes the same commands. git is there for the records, which name the commit.
FROM debian:12
RUN apt-get update && apt-get install --yes --no-install-recommends \
        ca-certificates g++ git libgomp1 libquadmath0 make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /namsg-mx
COPY . .
RUN make .venv/installed
ENTRYPOINT ["make"]
CMD ["demo"]
