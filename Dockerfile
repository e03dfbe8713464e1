# A machine with both Pythons, for whoever has no Python 3.6: real CNTK 2.7 and the port.
#
#   docker build -t cntk-parity . && docker run --rm -it -v "$PWD:/project" cntk-parity
#
# Written from what the two images hold, and not tried: no container could be run where this project
# was made. README.md, "How to get a Python 3.6", says what was tried.
FROM python:3.6-slim-bullseye AS python36

FROM python:3.11-slim-bullseye
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make git \
    && rm -rf /var/lib/apt/lists/*
# Both images are of one Debian, so Python 3.6 finds the libraries that it was linked to.
COPY --from=python36 /usr/local /opt/python3.6
RUN echo /opt/python3.6/lib > /etc/ld.so.conf.d/python3.6.conf && ldconfig
ENV CNTK_PYTHON=/opt/python3.6/bin/python3.6
WORKDIR /project
CMD ["make", "parity"]
