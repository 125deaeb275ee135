# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# A driver for AlpaSim: `vla_driver serve egodriver --mode alpasim` with nano, for a read-only root and no network.
#
#     docker build -f docker/egodriver.Dockerfile -t vla-driver-egodriver .
#     docker run --read-only -p 50051:50051 vla-driver-egodriver
#
# This file has not been built by the project (docs/how-to/drive-for-other-simulators.md says what was run instead).

# The graphs are made once, with all that training needs; the image that drives holds no torch.
FROM python:3.12-slim AS graphs
WORKDIR /opt/vla_driver
COPY requirements.txt ./
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt
COPY vla_driver vla_driver
COPY config config
COPY models models
RUN python -m vla_driver.cli export nano

FROM python:3.12-slim
WORKDIR /opt/vla_driver
COPY requirements.txt docker/egodriver-requirements.txt ./
RUN pip install --no-cache-dir -r egodriver-requirements.txt -c requirements.txt
COPY vla_driver vla_driver
COPY config config
COPY --from=graphs /opt/vla_driver/models models
ENV PYTHONPATH=/opt/vla_driver PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 50051
# AlpaSim's wizard replaces the command and fills in its port.
CMD ["python", "-m", "vla_driver.cli", "serve", "egodriver", "--mode", "alpasim", "--address", "0.0.0.0:50051"]
