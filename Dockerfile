# CPU:  docker build -t mpdvae . && docker run --rm -v "$PWD/runs:/work/runs" mpdvae reproduce
# GPU:  docker build -t mpdvae-gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .   (docs/install.md)
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.6"
COPY . /source
RUN pip install --no-cache-dir /source && rm -rf /source
ENV MPDVAE_DATA=/data
VOLUME /data
WORKDIR /work
ENTRYPOINT ["mpdvae"]
