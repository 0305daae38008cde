# docker build -t mpdvae . && docker run --rm -v "$PWD/runs:/work/runs" mpdvae reproduce        (docs/install.md)
FROM python:3.12-slim
# The index that PyTorch names for your hardware, for a build for CPUs alone or for another GPU; empty: pip's default build.
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6"
COPY . /source
RUN pip install --no-cache-dir /source && rm -rf /source
# Whoever runs it (--user) can keep data sets there, and has a home for caches.
RUN mkdir --mode=1777 /data /work
ENV MPDVAE_DATA=/data HOME=/tmp
VOLUME /data
WORKDIR /work
ENTRYPOINT ["mpdvae"]
