# docker build --tag namsg-mx . && docker run --rm --volume "$PWD/build:/namsg-mx/build" namsg-mx
# Not built yet: no Docker daemon was at hand where this was written. Its steps are those of README on Debian.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends git make g++ libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /namsg-mx
COPY . .
RUN make .venv/installed
ENTRYPOINT ["make"]
CMD ["demo"]
